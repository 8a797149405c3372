"""
lm-evaluation-harness measures a model.bin.

    python examples/lm_eval_model.py model.bin --tasks hellaswag,arc_easy [--limit 100] [--include_path FOLDER]

or in a program: lm_eval.simple_evaluate(model=TwoFile("model.bin"), tasks=["hellaswag"]). Prints the harness's table.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, os.environ.get("TWOFILE", str(Path(__file__).resolve().parent.parent)))

import run  # noqa: E402

try:
    from lm_eval.api.model import LM
except ImportError:
    sys.exit("lm_eval_model.py: needs the harness, which is not installed: pip install lm_eval")


class TwoFile(LM):
    """A model.bin, as the harness asks: log-likelihoods of continuations and of whole texts, and text until a stop.

    path, n_ctx, n_threads: as in run.Model. places: texts written at once.
    """

    def __init__(self, path, n_ctx=0, n_threads=None, places=8):
        super().__init__()
        self.model, self.places = run.Model(path, n_ctx=n_ctx, n_threads=n_threads), places

    def loglikelihood(self, requests, disable_tqdm=False):
        return [self._one(*request.args) for request in requests]

    def _one(self, context, continuation):
        m = self.model
        ids = m.tokenize(context + continuation) if context else []
        if len(ids) > m.n_ctx:  # the harness's rule: what is too long loses its beginning
            first = len(m.tokenize(context.rstrip()))
            cut = len(ids) - m.n_ctx
            return m.loglikelihood(ids[cut:first], ids[max(first, cut) :])
        return m.loglikelihood(context, continuation)

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        return [self.model.loglikelihood_rolling(request.args[0]) for request in requests]

    def generate_until(self, requests, disable_tqdm=False):
        writers = []
        for request in requests:
            context, how = request.args
            until, most = how.get("until") or [], how.get("max_gen_toks", 256)
            ids = self.model.tokenize(context)[-(self.model.n_ctx - most) :]
            heat = how.get("temperature", 0.0) if how.get("do_sample") else 0.0
            writers.append(run.Writer(self.model, ids, most, stop=until, seed=1, temperature=heat))
        for _ in self.model.together(writers, self.places):
            pass
        return [w.written for w in writers]

    @property
    def tokenizer_name(self):
        return self.model.info["tokenizer"][:16]

    def apply_chat_template(self, chat_history, add_generation_prompt=True):
        raise run.ModelError("--apply_chat_template: our templates are ids, not text; expected none; leave it out")


def main():
    import argparse

    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import make_table

    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("--tasks", required=True)
    ap.add_argument("--limit", type=int)
    ap.add_argument("--include_path", help="a folder of task files")
    a = ap.parse_args()
    found = simple_evaluate(
        model=TwoFile(a.model), tasks=a.tasks.split(","), limit=a.limit, task_manager=TaskManager(include_path=a.include_path)
    )
    print(make_table(found))


if __name__ == "__main__":
    main()
