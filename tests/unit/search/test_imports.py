"""Search serves: it needs no torch, and says which extra brings what it does need."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["pipeline", "build", "evaluate", "session", "report"])
def test_search_imports_no_torch(module):
    code = "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None; import octavo.search." + module
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("verb", [("search", "query", "index", "a"), ("serve", "store", "--index", "index")])
@pytest.mark.parametrize(("package", "named"), [("faiss", "faiss-cpu"), ("tantivy", "tantivy")])
def test_the_command_line_names_the_extra(package, named, verb):
    code = f"import sys; sys.modules['{package}'] = None; from octavo.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, *verb], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"'{named}'. Install it with: pip install 'octavo[search]'" in done.stderr
