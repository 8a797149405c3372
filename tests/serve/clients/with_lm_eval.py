"""lm-evaluation-harness measures a server.        python with_lm_eval.py URL FOLDER

FOLDER has foxes.jsonl of {"question", "answer"}. Prints as JSON what it made of it: {"alone": [[sum, greedy] ...], "at once",
"together": the same, asked in other ways, "texts": [...], "version"}.
"""

import importlib.metadata
import json
import sys
from pathlib import Path

import lm_eval
from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.tasks import TaskManager

URL, FOLDER = sys.argv[1], Path(sys.argv[2])
TASK = """\
task: foxes
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/foxes.jsonl}}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
{more}
"""
how = dict(model="model", base_url=f"{URL}/v1/completions", max_length=512)
made = {"version": importlib.metadata.version("lm_eval")}


def measure(model, kind, more):
    """-> ([what the model answered to each], {measure: number})"""
    (FOLDER / "foxes.yaml").write_text(TASK.format(folder=FOLDER, kind=kind, more=more))
    manager = TaskManager(include_path=str(FOLDER), include_defaults=False)
    found = lm_eval.simple_evaluate(model=model, tasks=["foxes"], task_manager=manager, bootstrap_iters=0, log_samples=True)
    samples = sorted(found["samples"]["foxes"], key=lambda sample: sample["doc_id"])
    return [sample["filtered_resps"] for sample in samples], found["results"]["foxes"]


metrics = "metric_list: [{metric: perplexity}, {metric: acc}]"
made["alone"] = [one for (one,) in measure(LocalCompletionsAPI(**how), "loglikelihood", metrics)[0]]
made["at once"] = [one for (one,) in measure(LocalCompletionsAPI(**how, num_concurrent=4), "loglikelihood", metrics)[0]]
made["together"] = [one for (one,) in measure(LocalCompletionsAPI(**how, batch_size=3), "loglikelihood", metrics)[0]]
until = "generation_kwargs: {until: ['.'], max_gen_toks: 20}\nmetric_list: [{metric: exact_match}]"
made["texts"] = [text for (text,) in measure(LocalCompletionsAPI(**how), "generate_until", until)[0]]
print(json.dumps(made))
