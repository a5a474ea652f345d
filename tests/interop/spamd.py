"""A spamd of our own, with one rule and nothing learned."""

from pathlib import Path

from tests.interop.milters import Program, free_port

TEST_STRING = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
RULES = """
required_score 5
body TEST_STRING /XJS\\*C4JDBQADN1\\.NSBN3/
describe TEST_STRING the string that tests
score TEST_STRING 7.5
add_header spam Flag _YESNOCAPS_
add_header all Status "_YESNO_, score=_SCORE_ tests=_TESTS_"
use_bayes 1
bayes_path {place}/bayes
bayes_file_mode 0777
"""


def start_spamd(program: str, place: Path) -> Program:
    """Started as root it works as nobody, who has to get to ``place``."""
    port = free_port()
    for folder in (place, place / "rules"):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
    (place / "rules" / "10_test.cf").write_text(RULES.format(place=place))
    plugins = "".join(f"loadplugin Mail::SpamAssassin::Plugin::{name}\n" for name in ("Check", "Bayes"))
    (place / "init.pre").write_text(plugins)
    where = ["-C", str(place / "rules"), f"--siteconfigpath={place}", "-i", f"127.0.0.1:{port}"]
    return Program([program, "-L", "-x", "-m", "1", "--allow-tell", "-s", "stderr", *where], port, place / "log")
