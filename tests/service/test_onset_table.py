"""How a training run begins: a sentence for each figure, the same before and after the run."""

import html

import httpx
import pytest

from ffengine.datasets import Datasets
from ffengine.onset import onset_before
from ffengine.results import Onset
from ffengine.spec import CheckSpec, TrainSpec, digest
from service.results.onset_table import onset_lines, onset_table
from service.store import NewJob, Store
from tests.factories import finished
from tests.service.samples import train_result

ONSET = Onset(
    lambda_1=0.6,
    overlap=0.75,
    recruitment=1.35,
    falls=True,
    tau_star=2.0,
    tau_star_low=0.65 / 0.45,
    tau_star_high=1.15 / 0.45,
    tau_end=4.0,
    epochs_to_selection=8.4,
    eta=0.02,
    unknown={"eta_c": "difference has no threshold that the scale goes to"},
)


def lines(onset: Onset, epochs: int = 10) -> dict[str, tuple[str, str]]:
    return {
        line.name.partition(",")[0]: (line.value, line.sentence)
        for line in onset_lines(onset, epochs)
    }


def test_each_figure_of_an_onset_has_a_sentence() -> None:
    found = lines(ONSET)
    assert list(found) == ["lambda_1", "q", "R", "tau*", "epochs to leave act 1", "eta_c"]
    assert found["lambda_1"][0] == "0.6"
    assert "e-fold in 0.833 of flow time" in found["lambda_1"][1]  # 1 / (2 lambda_1)
    assert found["q"][0] == "0.75"
    assert "grow at q lambda_1" in found["q"][1]
    assert "here it is expected to fall at first" in found["R"][1]
    assert found["tau*"][0] == "2"
    assert "S is expected to be lowest, so that act 2 begins (1.44 to 2.56)" in found["tau*"][1]
    assert ": 0.9 / (q lambda_1), a factor that is measured, not derived." in found["tau*"][1]
    assert "The run ends at 4." in found["tau*"][1]
    assert found["epochs to leave act 1"] == (
        "8.4",
        "Epochs until flow time is tau*. The run has 10: it is expected to leave act 1.",
    )
    assert "expected to end in act 1" in lines(ONSET, 8)["epochs to leave act 1"][1]
    assert found["eta_c"] == (
        "–",
        "Not known: difference has no threshold that the scale goes to.",
    )


def test_a_stored_result_says_the_formula_that_it_was_predicted_by() -> None:
    earlier = {"lambda_1": 0.625, "overlap": None, "tau_star_low": 1.76, "tau_star_high": 2.24}
    before = ONSET.model_copy(update=earlier)
    for overlap in (None, 0.6):
        found = lines(before.model_copy(update={"overlap": overlap}))
        assert "(1.76 to 2.24): 1.25 / lambda_1, a factor" in found["tau*"][1]
    assert lines(before)["q"] == ("–", "Not known.")
    assert "begins. The run ends at 4." in lines(Onset(tau_star=2.0, tau_end=4.0))["tau*"][1]


def test_a_run_without_act_1_says_so() -> None:
    why = "S is not expected to fall: act 2 begins at once"
    centred = Onset(
        lambda_1=0.6, recruitment=-0.001, falls=False, tau_end=4.0, unknown={"tau_star": why}
    )
    found = lines(centred)
    assert "here it is not expected to fall" in found["R"][1]
    assert found["tau*"] == ("–", f"None: {why}.")
    assert found["epochs to leave act 1"] == ("–", "None: there is no act 1 to leave.")
    assert found["eta_c"] == ("–", "Not known.")


@pytest.mark.parametrize(("eta", "side"), [(0.01, "below"), (0.02, "above")])
def test_a_critical_step_size_is_compared_with_the_largest_step(eta: float, side: str) -> None:
    found = lines(Onset(eta_c=0.0136, eta=eta, unknown={"tau_star": "of difference alone"}))
    assert found["eta_c"][0] == "0.0136"
    assert f"The largest step of this run, {eta:g}, is {side} it." in found["eta_c"][1]
    assert found["tau*"] == ("–", "Not known: of difference alone.")
    assert found["epochs to leave act 1"] == ("–", "Not known: of difference alone.")


def test_what_is_not_known_for_one_reason_has_it_everywhere() -> None:
    why = "the data set is large: the run says it"
    unknown = dict.fromkeys(("lambda_1", "tau_star", "eta_c"), why)
    assert {line.sentence for line in onset_lines(Onset(unknown=unknown), 5)} == {
        f"Not known: {why}."
    }


def test_classes_with_one_mean_have_no_growing_direction() -> None:
    found = lines(Onset(lambda_1=0.0, unknown={"tau_star": "all classes have the same mean"}))
    assert "No direction of the inputs grows" in found["lambda_1"][1]


def test_the_table_says_of_what_and_when_it_is() -> None:
    table = onset_table(ONSET, 10)
    assert [row[0] for row in table.rows] == [line.name for line in onset_lines(ONSET, 10)]
    assert "before the first step" in table.notes[0]


SPEC = TrainSpec.model_validate(
    {"dataset": {"train_samples": 200, "test_samples": 20}, "epochs": 3}
)


def submitted(store: Store, *, spec: TrainSpec | CheckSpec) -> str:
    return store.jobs.submit(NewJob(spec=spec, spec_digest=digest(spec)), max_queued=100).job.id


@pytest.mark.slow
def test_a_jobs_page_says_the_same_before_and_after_the_run(
    client: httpx.Client, store: Store
) -> None:
    expected = onset_before(SPEC, Datasets.of_environment())
    assert expected.tau_star
    job = submitted(store, spec=SPEC)
    before = client.get(f"/jobs/{job}").text
    form = client.post("/onset.html", content=SPEC.model_dump_json()).text
    finished(store, job, train_result().model_copy(update={"onset": expected}))
    after = client.get(f"/jobs/{job}").text
    for line in onset_lines(expected, 3):
        cell = f"<td>{html.escape(line.sentence)}</td>"
        assert cell in before, line
        assert cell in form, line
        assert cell in after, line
    assert (
        "How the run begins" not in client.get(f"/jobs/{submitted(store, spec=CheckSpec())}").text
    )


def test_an_earlier_result_has_a_page_without_it(client: httpx.Client, store: Store) -> None:
    job = submitted(store, spec=SPEC)
    finished(store, job, train_result())
    assert "How the run begins" not in client.get(f"/jobs/{job}").text
