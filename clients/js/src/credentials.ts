/** Who the client is: a token, a ticket, or functions that fetch them. */

export type Fetched = string | (() => string | Promise<string>);

export class Credentials {
  private _current: Promise<string> | undefined;

  /** At most one of `token` and `ticket`; `user` is for open mode. A ticket opens streams only. */
  constructor(
    private _token: Fetched | undefined,
    private readonly _ticket: Fetched | undefined,
    private readonly _user: string | undefined,
  ) {}

  /** Whether new ones can be fetched. */
  get renewable(): boolean {
    return typeof (this._token ?? this._ticket) === "function";
  }

  /** Whether a `refresh` frame can be sent. */
  get refreshable(): boolean {
    return typeof this._token === "function";
  }

  /** Takes another token, or another function. */
  replace(token: Fetched): void {
    this._token = token;
    this.expire();
  }

  /** The token was refused or will be: the next use fetches another one. */
  expire(): void {
    this._current = undefined;
  }

  /** Returns the token, fetched once until it expires; undefined where there is none. */
  async bearer(): Promise<string | undefined> {
    if (typeof this._token !== "function") return this._token;
    const fetch = this._token;
    const current = (this._current ??= (async () => fetch())());
    current.catch(() => {
      if (this._current === current) this._current = undefined;
    });
    return current;
  }

  /** Returns the query of a stream's address and the bearer token, which goes elsewhere. A ticket is fetched each time. */
  async ofStream(): Promise<{ bearer: string | undefined; query: Record<string, string> }> {
    const bearer = await this.bearer();
    const query: Record<string, string> = {};
    if (bearer === undefined && this._ticket !== undefined) {
      query.ticket = typeof this._ticket === "function" ? await this._ticket() : this._ticket;
    } else if (bearer === undefined && this._user !== undefined) query.user = this._user;
    return { bearer, query };
  }

  /** Returns the headers of a request. */
  async ofRequest(): Promise<Record<string, string>> {
    const bearer = await this.bearer();
    if (bearer !== undefined) return { Authorization: `Bearer ${bearer}` };
    return this._user === undefined ? {} : { "X-Headgate-User": this._user };
  }
}
