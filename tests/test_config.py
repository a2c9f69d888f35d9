"""Settings: each kind of mistake has its one line."""

from pathlib import Path

import pytest

from bridge.config import read_settings
from bridge.errors import SettingsError

ROOT = Path(__file__).parent.parent
SOURCE = """
[[sources]]
kind = "openadr2"
name = "utility"
vtn_url = "https://localhost:8443/OpenADR2/Simple/2.0b"
ven_name = "bridge"
cert = "ec/ven.crt"
key = "ec/ven.key"
ca = "ec/ca.crt"
"""
DEVICE = '[[devices]]\nkind = "webhook"\nname = "d"\nurl = "http://127.0.0.1:9001/price"\n'


@pytest.fixture
def read(certs):
    def from_text(text):
        path = certs / "bridge.toml"
        path.write_text(text)
        return read_settings(path)

    return from_text


def test_an_empty_file_is_enough(read, certs):
    found = read("")
    assert (found.site.timezone, found.vtn.listen, found.admin) == ("UTC", "127.0.0.1:8080", None)
    assert found.store.path == certs / "bridge.db"


def test_defaults_are_those_of_the_documentation(read):
    found = read(SOURCE + DEVICE)
    (source,), (device,) = found.sources, found.devices
    assert (source.sign, source.opt, source.check_hostname) == (False, "always", True)
    assert device.programs == ("*",)
    assert (device.format, device.on_stale, device.test_events) == ("full", "normal", False)
    assert [str(v) for v in (device.refresh, device.lead, device.stale_after)] == [
        "0:05:00",
        "0:10:00",
        "2:00:00",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[vtn", "is not TOML"),
        ("[vtm]\n", "vtm: is not a setting; did you mean 'vtn'?"),
        (SOURCE.replace("vtn_url", "vtn_ur"), "did you mean 'vtn_url'?"),
        (DEVICE + "refesh = '5m'", "devices.0.refesh: is not a setting; did you mean 'refresh'?"),
        (DEVICE + "refresh = 5", 'devices.0.refresh: write it as a number with a unit, such as "30s"'),
        (DEVICE + "refresh = '0s'", "longer than nothing"),
        (DEVICE + "test_events = 'maybe'", "devices.0.test_events: is 'maybe'; input should be a valid boolean"),
        (DEVICE + "format = 'tiny'", "devices.0.format: is 'tiny'; write 'full' or 'state'"),
        (DEVICE.replace("http://127.0.0.1:9001/price", "heatpump"), "devices.0.url: is 'heatpump'"),
        (DEVICE + DEVICE, "two devices are named 'd'"),
        (DEVICE + "secret_file = 'nowhere'", "devices.d:"),
        (DEVICE + "secret_file = 'ec/ven.crt'", "begins with whsec_"),
        ("[site]\ntimezone = 'Mars/Olympus'", "is no time zone"),
        ("[vtn]\nlisten = '8080'", "write host:port"),
        ("[vtn]\nlisten = '0.0.0.0:8080'", "open to the network without TLS"),
        ("[vtn]\ncert = 'ec/vtn.crt'", "cert and key go together"),
        ("[vtn]\ncert = 'ec/vtn.crt'\nkey = 'rsa/vtn.key'", "is not the key of"),
        ("[admin]\n", ""),
        (SOURCE.replace("https://", "http://"), "vtn_url is http:// but a certificate is given; write https://"),
        (SOURCE.replace('ca = "ec/ca.crt"', ""), "an https VTN needs cert, key and ca; missing: ca"),
        (SOURCE.replace("ec/ven.crt", "ec/gone.crt"), "gone.crt: is not there"),
        (SOURCE.replace("ec/ven.key", "rsa/ven.key"), "is not the key of"),
        (SOURCE.replace("ec/ven.key", "ec/ven.crt"), "cannot be used as a private key"),
        (SOURCE.replace("ec/ca.crt", "bridge.toml"), "holds no CA certificate"),
        (SOURCE + "key_passphrase_file = 'nowhere'", "cannot be read"),
        (SOURCE + "vtn_fingerprint = 'AA:BB'", "write OpenADR's 10 bytes"),
        (SOURCE + "opt = 'sometimes'", "write 'always', 'never' or 'manual'"),
        (SOURCE.replace('ven_name = "bridge"', ""), "sources.0.ven_name: is missing"),
        (SOURCE + '[sources.programs]\n"http://a" = { name = "X" }\n"http://b" = { name = "X" }', "two programs are named 'X'"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_in_one_line(read, certs, text, said):
    if not said:
        read(text)
        return
    with pytest.raises(SettingsError) as error:
        read(text)
    assert str(error.value).startswith(f"{certs / 'bridge.toml'}: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SettingsError, match="is not there"):
        read_settings(tmp_path / "nothing.toml")


def test_the_environment_overrides_the_file(read, monkeypatch):
    monkeypatch.setenv("OPENADR_BRIDGE_VTN__LISTEN", "127.0.0.1:9999")
    monkeypatch.setenv("OPENADR_BRIDGE_SITE__TIMEZONE", "Europe/Berlin")
    found = read("[vtn]\nlisten = '127.0.0.1:1'\npublic_prices = false")
    assert (found.vtn.port, found.site.timezone, found.vtn.open_prices) == (
        9999,
        "Europe/Berlin",
        False,
    )


def test_a_listener_open_to_the_network_is_allowed_on_purpose(read):
    assert read("[vtn]\nlisten = '0.0.0.0:0'\ninsecure_http = true").vtn.open_prices is False
    found = read("[vtn]\nlisten = '[::]:8443'\ncert = 'ec/vtn.crt'\nkey = 'ec/vtn.key'")
    assert (found.vtn.host, found.vtn.port, found.vtn.tls() is None) == ("::", 8443, False)


def test_an_encrypted_key_is_opened_with_its_passphrase_file(read, certs):
    from cryptography.hazmat.primitives import serialization as s

    key = s.load_pem_private_key((certs / "ec" / "ven.key").read_bytes(), None)
    sealed = key.private_bytes(
        s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"sesame")
    )
    (certs / "sealed.key").write_bytes(sealed)
    (certs / "passphrase").write_text("sesame\n")
    text = SOURCE.replace("ec/ven.key", "sealed.key")
    with pytest.raises(SettingsError, match="key_passphrase_file"):
        read(text)
    assert read(text + "key_passphrase_file = 'passphrase'").sources[0].tls()


@pytest.mark.parametrize(
    ("text", "environment", "said"),
    [
        (
            SOURCE + '[sources.programs]\n"http://a" = { nam = "X" }',
            {},
            "sources.0.programs.http://a.nam",
        ),
        ("", {"OPENADR_BRIDGE_VTN": "127.0.0.1:9080"}, "OPENADR_BRIDGE_SECTION__KEY"),
        ("", {"OPENADR_BRIDGE_SOURCES": "xyz"}, "the environment"),
        (DEVICE + "timeout = '99999999999999d'", {}, "write it as a number with a unit"),
        (DEVICE + 'headers = { x = "a\\nb" }', {}, "cannot be sent as a header"),
    ],
)
def test_stranger_mistakes(read, monkeypatch, text, environment, said):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as error:
        read(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
