"""Rehearses a lab before students see it: the proof that it is ready, or what is missing.

Known mistakes lose points, are named and cost no other exercise a point; correct variants and the
solution get full marks, the untouched notebook none; no verdict depends on the seed. What visible
tests list can be told apart. What is honest on visible inputs only, or does nothing at all,
passes no test; pasted code earns no points, and every mutant of the solution is killed or known to
be equivalent.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from autograder.authoring.lab import Lab, LabError, bound_names
from autograder.grading.job import Isolation, Result
from autograder.rehearsal.distinct import alike
from autograder.rehearsal.known_answers import (
    Equivalent,
    KnownAnswer,
    affected,
    answered_notebook,
    equivalents,
    known_answers,
    solution_answers,
)
from autograder.rehearsal.mutants import mutants, sample, survivors
from autograder.rehearsal.paste import pasted
from autograder.rehearsal.poison import passed, poisoners
from autograder.rehearsal.trials import Trials

__all__ = ["affected", "answered_notebook", "known_answers", "rehearse", "solution_answers"]

SEEDS = (0, 1, 2)
SAMPLE = 12


@dataclass
class Quality:
    """What was counted for one exercise; `alive` are the mutants that get full marks and aren't
    known to be equivalent, `pasted` the most points that visible code earns, of `points` in all,
    `poisoned` how often a poisoner or an idler passes a test cell in the grader."""

    exercise: str
    mistakes: int = 0
    caught: int = 0
    named: int = 0
    variants: int = 0
    accepted: int = 0
    mutants: int = 0
    equivalent: int = 0
    alive: int = 0
    pasted: float = 0
    poisoned: int = 0
    points: float = 0


@dataclass
class Report:
    """What a rehearsal found.

    Attributes:
        problems: what keeps the lab from being ready, one sentence each.
        notes: what would, were the exercise in the new form (see in_new_form), one sentence each.
        quality: the numbers, by exercise.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    quality: dict[str, Quality] = field(default_factory=dict)


def in_new_form(lab: Lab) -> set[str]:
    """The exercises whose points are spread over aspects, so that all of this is asked of them."""
    return {cell.name for cell in lab.having("test") if cell.aspect}


def rehearse(
    lab: Lab,
    workers: int,
    isolation: Isolation = "bubblewrap",
    exercises: Collection[str] = (),
    seeds: Sequence[int] = SEEDS,
    variant_seeds: Sequence[int] = SEEDS,
    most_mutants: int = SAMPLE,
    everywhere: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Tries everything that is known about a lab, and much that isn't.

    Args:
        exercises: only these; the whole lab if empty.
        seeds: the hidden tests' seeds for mistakes; the real grader tries the first of them, and
            the others where the screen sees a difference.
        variant_seeds: the same for correct variants.
        most_mutants: how many mutants to sample; the sample is always the same.
        everywhere: whether code from all labs is pasted, not from this one alone.
        progress: called with how many trials are done, out of how many so far.

    Raises:
        LabError: the lab has no such exercise, no file of mistakes, or a wrong one.
        FileNotFoundError: the lab isn't released.
    """
    if unknown := [name for name in exercises if name not in lab.exercises]:
        raise LabError(
            f"{lab.name} has no exercise {unknown[0]!r}; it has {', '.join(lab.exercises)}"
        )
    chosen = [name for name in lab.exercises if name in (exercises or lab.exercises)]
    report = Report(quality={name: Quality(name) for name in chosen})
    for cell in lab.having("test"):
        if cell.name in report.quality:
            report.quality[cell.name].points += cell.points
    answers = [answer for answer in known_answers(lab) if answer.exercise in chosen]
    tried = sample([m for m in mutants(lab) if m.exercise in chosen], most_mutants, lab.name)
    with Trials(workers, isolation, progress) as trials:
        started = _Known(trials, lab, chosen, answers, seeds, variant_seeds)
        told_apart = trials.submit(alike, lab.solution_path)
        copies = {
            name: trials.submit(pasted, lab.solution_path, name, everywhere) for name in chosen
        }
        poison = poisoners(trials, lab, chosen)
        alive = survivors(trials, lab, tried)
        new = in_new_form(lab)
        soft = {name: report.problems if name in new else report.notes for name in chosen}
        started.report(report, soft)
        for pair in told_apart.result():
            if pair.exercise in chosen:
                soft[pair.exercise].append(f"{lab.solution_path.name}:{pair.line}: {pair}")
        for name, copy in copies.items():
            rows = copy.result()
            report.quality[name].pasted = max((row.points for row in rows), default=0)
            soft[name] += [str(row) for row in rows[:3]]
        for row in passed(lab, poison):
            if row.judge == "the grader":
                soft[row.exercise].append(str(row))
                report.quality[row.exercise].poisoned += 1
            else:
                report.notes.append(str(row))
    known = {(e.exercise, e.change): e for e in equivalents(lab) if e.exercise in chosen}
    for mutant in tried:
        report.quality[mutant.exercise].mutants += 1
    for mutant in alive:
        if known.pop((mutant.exercise, mutant.change), None):
            report.quality[mutant.exercise].equivalent += 1
        else:
            report.quality[mutant.exercise].alive += 1
            place = f"{lab.solution_path.name}:{mutant.line}"
            soft[mutant.exercise].append(
                f"{place}: a mutant of {mutant.exercise} is alive: {mutant.short}"
            )
    for exercise, text in _stale(lab, known.values(), {(m.exercise, m.change) for m in tried}):
        soft[exercise].append(text)
    return report


def _stale(
    lab: Lab, left: Iterable[Equivalent], tried: Collection[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Which equivalents are out of date, by their exercise: what doesn't occur any more, or has
    been killed."""
    every = {(mutant.exercise, mutant.change) for mutant in mutants(lab)}
    stale = []
    for known in left:
        place = f"tests/mistakes/{lab.name}.py:{known.line}"
        if (known.exercise, known.change) not in every:
            said = f"{known.exercise} has no such mutant any more; remove it"
        elif (known.exercise, known.change) in tried:
            said = f"this mutant of {known.exercise} isn't equivalent: it is killed"
        else:
            continue
        stale.append((known.exercise, f"{place}: {said}"))
    return stale


class _Known:
    """The known answers to a lab, on trial."""

    def __init__(
        self,
        trials: Trials,
        lab: Lab,
        chosen: list[str],
        answers: list[KnownAnswer],
        seeds: Sequence[int],
        variant_seeds: Sequence[int],
    ) -> None:
        self.trials, self.lab, self.chosen, self.answers = trials, lab, chosen, answers
        self.seeds = {True: seeds, False: variant_seeds}  # by whether it is a mistake
        self.tested = {name: affected(lab, name) for name in chosen}
        self.solution = trials.graded(lab, {}, chosen)
        self.untouched = trials.graded(lab, {}, chosen, blank=True)
        self.graded = [self._grade(answer, self._seeds(answer)[0]) for answer in answers]
        self.screened = [
            {
                seed: trials.screened(lab, self._sources(answer), self._tests(answer), seed)
                for seed in self._seeds(answer)[1:]
            }
            for answer in answers
        ]

    def _seeds(self, answer: KnownAnswer) -> Sequence[int]:
        return self.seeds[answer.named is not None]

    def _sources(self, answer: KnownAnswer) -> dict[str, str]:
        return {answer.exercise: answer.source}

    def _tests(self, answer: KnownAnswer) -> set[str]:
        return self.tested[answer.exercise]

    def _grade(self, answer: KnownAnswer, seed: int) -> Future:
        return self.trials.graded(self.lab, self._sources(answer), self._tests(answer), seed)

    def report(self, report: Report, soft: Mapping[str, list[str]]) -> None:
        """Adds what the answers showed to a report; what an exercise in the old form may still lack
        goes to its list in soft."""
        report.problems += [
            f"the solution fails {test.grade_id}: {test.message}"
            for test in self.solution.result().tests
            if test.outcome != "passed"
        ]
        report.problems += [
            f"the untouched notebook passes {test.grade_id}"
            for test in self.untouched.result().tests
            if test.outcome == "passed"
        ]
        for answer, future, screened in zip(self.answers, self.graded, self.screened, strict=True):
            first = messages(future.result())
            faults = self._faults(answer, first)
            for seed, verdicts in screened.items():
                faults |= self._under(answer, seed, first, verdicts.result())
            for kind, text in faults.items():
                softly = kind in ("seed", "misnamed")
                (soft[answer.exercise] if softly else report.problems).append(text)
            row = report.quality[answer.exercise]
            if answer.named is None:
                row.variants += 1
                row.accepted += not faults
            else:
                row.mistakes += 1
                row.caught += "caught" not in faults
                row.named += not faults.keys() & {"caught", "named", "misnamed"}
        for row in report.quality.values():
            strict = soft[row.exercise] is report.problems
            mistakes, variants = (8, 3) if strict else (4, 2)
            if row.mistakes < mistakes or row.variants < variants:
                report.problems.append(
                    f"{row.exercise} has {row.mistakes} known mistakes and {row.variants} correct"
                    f" variants; it needs {mistakes} and {variants}"
                )

    def _under(
        self, answer: KnownAnswer, seed: int, first: Mapping[str, str], screened: Mapping[str, str]
    ) -> dict[str, str]:
        """What is wrong under another seed: the screen says whether the grader has to look."""

        def failing(said: Mapping[str, str]) -> set[str]:
            return {name for name, message in said.items() if message}

        if failing(screened) == failing(first) and not self._faults(answer, screened):
            return {}
        again = messages(self._grade(answer, seed).result())
        changed = sorted(failing(again) ^ failing(first))
        if not changed:
            return self._faults(answer, again)
        usual = self._seeds(answer)[0]
        return {
            "seed": f"whether the {answer.title} passes {', '.join(changed)} depends on the seed:"
            f" {usual} and {seed} differ"
        }

    def _faults(self, answer: KnownAnswer, said: Mapping[str, str]) -> dict[str, str]:
        """What is wrong with the tests' verdicts on an answer, one sentence for each kind."""
        if answer.exercise not in bound_names(answer.source):
            return {"caught": f"the {answer.title} does not define {answer.exercise}"}
        faults = {}
        own = {cell.grade_id for cell in self.lab.having("test") if cell.name == answer.exercise}
        for test, message in said.items():
            if message and (test not in own or answer.named is None):
                faults[f"fails {test}"] = f"the {answer.title} fails {test}: {message}"
        if answer.named is None:
            return faults
        heard = [message for test, message in said.items() if test in own and message]
        if not heard:
            faults["caught"] = f"the {answer.title} ({answer.named!r}) gets full marks"
        elif not any(answer.named in message for message in heard):
            faults["named"] = f"the {answer.title} is not named {answer.named!r}: {heard[0]}"
        names = {a.named for a in self.answers if a.exercise == answer.exercise and a.named}
        for message in heard:
            wrong = sorted(name for name in names if name in message and name != answer.named)
            if wrong and answer.named not in message:
                faults["misnamed"] = f"the {answer.title} is called {wrong[0]!r}: {message}"
        return faults


def messages(result: Result) -> dict[str, str]:
    """Why each test fails, by its grade id; "" where it passes."""
    return {
        test.grade_id: "" if test.outcome == "passed" else test.message or test.outcome
        for test in result.tests
    }
