/** Who the client is: a token, a ticket, or functions that fetch them. */

export type Fetched = string | (() => string | Promise<string>);

export class Credentials {
  private current: Promise<string> | undefined;

  /** At most one of `token` and `ticket`; `user` is for open mode. A ticket opens streams only. */
  constructor(
    private token: Fetched | undefined,
    private readonly ticket: Fetched | undefined,
    private readonly user: string | undefined,
  ) {}

  /** Whether new ones can be fetched. */
  get renewable(): boolean {
    return typeof (this.token ?? this.ticket) === "function";
  }

  /** Whether a `refresh` frame can be sent. */
  get refreshable(): boolean {
    return typeof this.token === "function";
  }

  /** Takes another token, or another function. */
  replace(token: Fetched): void {
    this.token = token;
    this.expire();
  }

  /** The token was refused or will be: the next use fetches another one. */
  expire(): void {
    this.current = undefined;
  }

  /** Returns the token, fetched once until it expires; undefined where there is none. */
  async bearer(): Promise<string | undefined> {
    if (typeof this.token !== "function") return this.token;
    const fetch = this.token;
    const current = (this.current ??= (async () => fetch())());
    current.catch(() => {
      if (this.current === current) this.current = undefined;
    });
    return current;
  }

  /** Returns the query of a stream's address and the bearer token, which goes elsewhere. A ticket is fetched each time. */
  async ofStream(): Promise<{ bearer: string | undefined; query: Record<string, string> }> {
    const bearer = await this.bearer();
    const query: Record<string, string> = {};
    if (bearer === undefined && this.ticket !== undefined) {
      query.ticket = typeof this.ticket === "function" ? await this.ticket() : this.ticket;
    } else if (bearer === undefined && this.user !== undefined) query.user = this.user;
    return { bearer, query };
  }

  /** Returns the headers of a request. */
  async ofRequest(): Promise<Record<string, string>> {
    const bearer = await this.bearer();
    if (bearer !== undefined) return { Authorization: `Bearer ${bearer}` };
    return this.user === undefined ? {} : { "X-Headgate-User": this.user };
  }
}
