"""Writes `jars.lock` anew with an installed Maven: `python -m tests.kafka.relock [KAFKA_VERSION]`.

Must not be needed by a test; it is for the engineer who moves to another Kafka.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.kafka.jars import LOCK, Jar, kafka_version, sha256_of

# Kafka's SLF4J is 1.7, so not log4j-slf4j2-impl.
LOGGING = ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.5")
# kafka-tools-api stands in Kafka's POM, is not published, and only an offline dump tool uses it.
POM = """<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>headgate.tests</groupId><artifactId>kafka-jars</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{kafka}</version>
      <exclusions><exclusion>
        <groupId>org.apache.kafka</groupId><artifactId>kafka-tools-api</artifactId>
      </exclusion></exclusions>
    </dependency>
    <dependency><groupId>{logging[0]}</groupId><artifactId>{logging[1]}</artifactId><version>{logging[2]}</version></dependency>
  </dependencies>
</project>
"""
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:list"
HEADER = """\
# Every jar of an Apache Kafka broker, with its SHA-256. Written by `python -m tests.kafka.relock` (needs Maven):
# the runtime tree of kafka_2.13 without kafka-tools-api, and log4j-slf4j-impl. Don't edit by hand.
"""

# "   group:artifact:jar:version:scope:/path/of/the.jar", then perhaps " -- module name" (and colours)
_LISTED = re.compile(r"^\s+([\w.-]+):([\w.-]+):jar:([\w.-]+):(?:compile|runtime):(.+?\.jar)(?:\s|\x1b|$)", re.MULTILINE)


def relock(kafka: str, lock: Path = LOCK) -> tuple[Jar, ...]:
    """Resolve the tree of that version and write the lock; raises CalledProcessError when Maven fails."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "pom.xml").write_text(POM.format(kafka=kafka, logging=LOGGING), "utf-8")
        listing = folder / "list.txt"
        command = ["mvn", "-B", "-q", PLUGIN, "-DincludeScope=runtime", "-DoutputAbsoluteArtifactFilename=true"]
        subprocess.run([*command, f"-DoutputFile={listing}"], cwd=folder, check=True)
        found = _LISTED.findall(listing.read_text("utf-8"))
    jars = tuple(Jar(group, name, version, sha256_of(Path(path))) for group, name, version, path in sorted(found))
    lines = [f"{jar} sha256:{jar.sha256}\n" for jar in jars]
    lock.write_text(HEADER + "".join(lines), "utf-8")
    return jars


if __name__ == "__main__":
    written = relock(sys.argv[1] if len(sys.argv) > 1 else kafka_version())
    print(f"{len(written)} jars written to {LOCK.name}")
