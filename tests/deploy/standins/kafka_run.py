#!/usr/bin/env python3
"""Starts Kafka as the image apache/kafka does: KAFKA_* is server.properties, a data folder without a format gets one.

A script in the stand-in image: knows nothing but its environment.
"""

import os
import subprocess
from pathlib import Path

DEFAULT_CLUSTER = "5L6g3nShT-eMCtK--X86sw"
HOME = Path("/opt/kafka")
JAVA = ("/opt/java/bin/java", "-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def main() -> None:
    """Becomes the broker."""
    # KAFKA_A_B is a.b, two underscores stand for one, three for a dash: as in the official image.
    settings = {"log.dirs": "/tmp/kraft-combined-logs"}
    for name, value in os.environ.items():
        if name.startswith("KAFKA_"):
            key = name.removeprefix("KAFKA_").replace("___", "-").replace("__", "\0").replace("_", ".")
            settings[key.replace("\0", "_").lower()] = value
    properties = Path("/tmp/server.properties")
    properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()), "utf-8")
    java = (*JAVA, f"-Dlog4j2.configurationFile={HOME}/log4j2.properties", "-cp", f"{HOME}/libs/*")
    cluster = os.environ.get("CLUSTER_ID", DEFAULT_CLUSTER)
    form = ("kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster, "-c", str(properties))
    subprocess.run([*java, *form], check=True)
    os.execv(java[0], [*java, "kafka.Kafka", str(properties)])


if __name__ == "__main__":
    main()
