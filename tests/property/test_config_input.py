"""Whatever is written, decoding, validating and analyzing end in objects and problems, never in an exception."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.config.analyze.run import analyze
from mesh.config.decode import decode_text
from mesh.config.documents import read_documents
from mesh.config.store import Store
from mesh.config.validate import validate

ROOT = Path(__file__).parents[2]
FILES = [*sorted((ROOT / "apps").glob("**/*.yaml")), *sorted((ROOT / "tests/golden/config-errors").glob("*.yaml"))]
DOCUMENTS = [document.value for path in FILES for document in read_documents(path.read_text())[0]]

words = st.sampled_from(["*", "", "a", "A b", "-1", "10s", "reviews", "mesh", "STRICT", "(", "%", "/", "a/b", "0"])
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 70000), st.floats(allow_nan=False), words, st.text(max_size=4)
)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=6
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a document."""
    found: list[tuple[Any, Any]] = []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        found += [(value, key), *places(inner)]
    return found


@st.composite
def spoilt(draw: st.DrawFn) -> str:
    """One of our files' documents with a few places replaced, moved or removed; JSON is YAML."""
    document = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 3))):
        spots = places(document)
        if not spots:
            break
        container, key = draw(st.sampled_from(spots))
        if isinstance(container, dict) and draw(st.booleans()):
            value = container.pop(key)
            container[draw(st.one_of(words, st.just(f"{key}s")))] = value
        else:
            container[key] = draw(anything)
    return json.dumps(document)


@settings(max_examples=400, deadline=None)
@given(st.lists(spoilt(), min_size=1, max_size=3))
def test_spoilt_files_end_in_problems(texts: list[str]) -> None:
    decoded = decode_text("\n---\n".join(texts), "f.yaml")
    assert len(decoded.manifests) + len(decoded.problems) >= 1
    for message in analyze(decoded.manifests, decoded.problems):
        assert message.text
    store = Store()
    sound = {str(manifest): manifest for manifest in decoded.manifests if not validate(manifest)}
    store.apply_all(list(sound.values()))
    assert {str(found) for found in store.everything()} >= {
        str(manifest) for manifest in sound.values() if manifest.kind.name == "Fault"
    }
    store.close()


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:- \n\t[]{}&*!|>'\"%#?,<1~\u00e9\ufeff"), max_size=40))
def test_any_text_ends_in_documents_or_a_problem(text: str) -> None:
    documents, problems = read_documents(text)
    assert all(document.value is not None for document in documents)
    assert len(problems) <= 1
