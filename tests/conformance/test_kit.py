"""The kit can fail: each mutant of the VTN is seen by the tests that are there for it."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conformance.making import swept
from tests.conformance.mutants import MUTANTS, PLAIN
from tests.conformance.proxy import spoiled
from tests.conformance.vtn import Client

HERE = Path(__file__).parent
WITHIN = 100.0
QUICK = {"KIT_WITHIN": "3", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
PYTEST = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-rA", f"--confcutdir={HERE}"]
PYTEST += [f"-p{name}" for name in ("pytest_asyncio.plugin", "pytest_timeout", "no:cacheprovider")]
NAMED = sorted({test for mutant in MUTANTS for test in mutant.seen_by})


async def outcomes(vtn, mutant, http, tests):
    """Run some tests of the kit against a mutant; return what became of each."""
    async with spoiled(vtn, mutant, http) as proxy:
        run = await asyncio.create_subprocess_exec(
            *PYTEST,
            *(f"{HERE / test}" for test in tests),
            cwd=HERE.parents[1],
            env={**os.environ, **vtn.environment(), **QUICK, "VTN_URL": proxy.url},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(WITHIN):
            told = (await run.communicate())[0].decode()
    assert proxy.broken == []
    found = re.findall(
        r"^(PASSED|FAILED|ERROR) \S*?(test_\w+\.py::.*?)(?: - .*)?$", told, re.MULTILINE
    )
    became = {test: {word for word, named in found if named == test} for _word, test in found}
    return became, told


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def as_it_is(vtn, http):
    """What becomes of the named tests before the VTN itself, once for all mutants.

    Before a mutant tests cannot always take away what they made, so that is done in the end.
    """
    yield {}
    await swept(*(Client(vtn, http, token) for token in (vtn.ven1, vtn.ven2, vtn.bl)))


@pytest_asyncio.fixture(loop_scope="session")
async def unspoiled(as_it_is, vtn, http):
    if not as_it_is:
        as_it_is.update((await outcomes(vtn, PLAIN, http, NAMED))[0])
    return as_it_is


async def test_the_named_tests_pass_before_the_vtn_itself(unspoiled):
    assert unspoiled
    assert {test for test, became in unspoiled.items() if became != {"PASSED"}} == set()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
async def test_a_mutant_is_seen(mutant, unspoiled, vtn, http):
    tests = [test for test in mutant.seen_by if unspoiled.get(test) == {"PASSED"}]
    if not tests:
        pytest.skip("this VTN skips the tests that would see it")
    became, told = await outcomes(vtn, mutant, http, tests)
    assert {test for test in tests if "FAILED" not in became.get(test, set())} == set(), told
