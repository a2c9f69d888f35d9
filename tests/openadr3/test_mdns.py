"""The VTN is found on the local network, by what the Definition says a VEN looks for."""

from zeroconf import ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from bridge.clock import WallClock
from bridge.vtn.discovery import SERVICE, Announced, Announcement
from tests.openadr3.clients import until


async def test_it_is_announced_found_and_withdrawn(vtn):
    seen = []
    listener = AsyncZeroconf(interfaces=["127.0.0.1"])
    browser = AsyncServiceBrowser(
        listener.zeroconf, SERVICE, handlers=[lambda **about: seen.append((about["name"], about["state_change"]))]
    )  # fmt: skip
    try:
        async with vtn(
            mdns={"enabled": True, "name": "test bridge", "hostname": "gateway"}
        ) as call:
            await call("bl").made("/programs", {"programName": "local"})
            name = f"test bridge.{SERVICE}"

            async def found():
                return (name, ServiceStateChange.Added) in seen

            await until(found)
            info = AsyncServiceInfo(SERVICE, name)
            assert await info.async_request(listener.zeroconf, 3000)
            port = int(call.bridge.addresses["vtn"].rpartition(":")[2])
            assert (info.parsed_addresses(), info.port, info.server) == (
                ["127.0.0.1"],
                port,
                "gateway.local.",
            )
            txt = {k.decode(): v.decode() for k, v in info.properties.items()}
            assert txt["version"] == "3.1.0"
            assert txt["base_path"] == "openadr3/3.1.0"
            assert txt["local_url"] == f"http://gateway.local:{port}/openadr3/3.1.0"
            assert (txt["requires_auth"], txt["role"]) == ("True", "vtn")
            assert txt["openapi_url"] == f"http://gateway.local:{port}/openapi.json"
            assert set(txt) == {
                "version",
                "base_path",
                "local_url",
                "program_names",
                "requires_auth",
                "openapi_url",
                "role",
            }

        async def gone():
            return (name, ServiceStateChange.Removed) in seen

        await until(gone)
    finally:
        await browser.async_cancel()
        await listener.async_close()


def test_a_txt_string_holds_whole_names_and_no_more_than_it_can():
    what = Announced("n", "h.local", slash=True, requires_auth=False)
    announcement = Announcement(what, "https://127.0.0.1:8443", None, WallClock())
    said = announcement.properties(
        ["local", "a,b", "x" * 300, *(f"program-{n}" for n in range(100))]
    )
    names = said["program_names"].split(",")
    assert names[:3] == ["local", "program-0", "program-1"]
    assert len(f"program_names={said['program_names']}".encode()) <= 255
    assert (said["base_path"], said["local_url"]) == (
        "/openadr3/3.1.0",
        "https://h.local:8443/openadr3/3.1.0",
    )
    assert said["requires_auth"] == "False"
