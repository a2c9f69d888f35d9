"""A Mosquitto of the test's own."""

import asyncio
import socket


class Mosquitto:
    """A real broker on loopback that can be killed and started again at the same port."""

    def __init__(self, folder, *lines):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self.config = folder / "mosquitto.conf"
        rules = "\n".join(lines or ("allow_anonymous true",))
        # Its clients' sessions outlive it, as they do where it is run for real.
        self.config.write_text(
            f"listener {self.port} 127.0.0.1\n{rules}\npersistence true\nautosave_interval 1\n"
            f"persistence_location {folder}/\nmax_queued_messages 0\nuser root\n"
        )
        self.process = None

    async def start(self):
        self.process = await asyncio.create_subprocess_exec(
            "mosquitto", "-c", str(self.config),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
        raise AssertionError("Mosquitto did not start")

    async def kill(self):
        self.process.kill()
        await self.process.wait()

    async def stop(self):
        if self.process.returncode is None:
            self.process.terminate()
            await self.process.wait()
