"""What counts as alike: a copy under other names; not the lab's own text, nor its solution."""

import random

from autograder.course.likeness import likenesses

SOLUTION = """def total(x):
    result = 0
    for row in x:
        for value in row:
            result = result + value
    return result
"""
STUB = "def total(x):\n    raise NotImplementedError"
OTHER = """def total(x):
    # my own idea
    flat = []
    while len(x) > 0:
        flat.extend(sorted(x[-1], key=abs))
        x = x[:-1]
    flat.sort(reverse=True)
    best, count = 0.0, len(flat) // 2 + 7
    for index in range(0, len(flat), count):
        best += sum(flat[index : index + count]) * 1.0
    return best
"""
RENAMED = (
    OTHER.replace("flat", "zahlen").replace("best", "summe").replace("index", "i")
    .replace("    # my own idea\n", "").replace("count", "schritt  ").replace("x", "eingabe")
).replace("eeingabetend", "extend")  # fmt: skip
KNOWN = {"total": [STUB, SOLUTION], "why": ["*Your answer here.*", "Sums don't depend on order."]}


def independent(seed: int) -> str:
    """An answer like no other."""
    generator = random.Random(seed)
    lines = [
        f"    v{generator.randrange(9)} = {generator.choice(['max', 'min', 'sum', 'len'])}"
        f"(x[{generator.randrange(99)}]) {generator.choice('+-*/')} {generator.randrange(99)}"
        for _ in range(9)
    ]
    return "\n".join(["def total(x):", *lines])


def find(answers: dict[str, str]) -> list:
    return likenesses({name: {"total": source} for name, source in answers.items()}, KNOWN, {"why"})


def test_copy_under_other_names_is_found_and_shown() -> None:
    (found,) = find({str(n): independent(n) for n in range(20)} | {"ada": OTHER, "bob": RENAMED})
    assert found.students == ("ada", "bob")
    assert found.part > 0.95
    ada, bob = found.cells["total"]
    assert "\n".join(line for line, _ in ada) == OTHER
    assert ("    # my own idea", False) in ada
    assert sum(shared for _, shared in ada) == sum(shared for _, shared in bob) == 10


def test_the_solution_and_the_stub_are_no_likeness() -> None:
    assert find({str(n): SOLUTION.replace("value", f"v{n}") for n in range(5)}) == []
    assert find(dict.fromkeys("abc", STUB)) == []
    assert find({str(n): independent(n) for n in range(30)}) == []


def test_what_many_have_is_no_likeness() -> None:
    assert find(dict.fromkeys(map(str, range(11)), OTHER)) == []
    assert len(find(dict.fromkeys(map(str, range(4)), OTHER))) == 6


def test_half_copied_is_less_alike() -> None:
    half = "\n".join([*OTHER.splitlines()[:8], *independent(1).splitlines()[1:]])
    (found,) = find({"ada": OTHER, "bob": half, "cy": independent(2)})
    assert 0.4 < found.part < 0.8


def test_copied_essay_is_found() -> None:
    essay = (
        "Because every weight is shared by all of the windows, its gradient must gather what each"
        " window has to say, and so it is a sum over places, which is what correlation does."
    )
    other = "I think it is since addition may be done in any order that one likes, as we learned."
    answers = {
        "ada": {"why": essay},
        "bob": {"why": essay.upper().replace(",", " –")},
        "cy": {"why": other},
    }
    (found,) = likenesses(answers, KNOWN, {"why"})
    assert found.students == ("ada", "bob")


def test_what_is_no_python_is_compared_too() -> None:
    broken = OTHER.replace("(", "((").replace("0.0", "'''")
    (found,) = find({"ada": broken, "bob": broken, "cy": "\f\x00)))"})
    assert found.students == ("ada", "bob")
    huge = "x = 'a" * 200_000
    assert find({"ada": huge, "bob": independent(1)}) == []
