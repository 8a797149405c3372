"""examples/, the README's lines, the recipes of docs/usage.md, run as they stand; without a package that one needs it is
skipped."""

import asyncio
import contextlib
import csv
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from helpers.examples import shell, two_files
from helpers.places import ROOT
from helpers.process import call
from twofile.model import Model
from twofile.options import line_seed

EXAMPLES = ROOT / "examples"
PROMPTS = ["the", "a fox", "hen", "the fox and", "x"]
REQUESTS = "".join(json.dumps({"prompt": p, "id": p, "max_tokens": 12}) + "\n" for p in PROMPTS)


@pytest.fixture
def folder(talker, tmp_path):
    two_files(tmp_path, talker)
    (tmp_path / "requests.jsonl").write_text(REQUESTS)
    return tmp_path


@pytest.fixture
def example(monkeypatch):
    """A function: the name of an example that is a program -> the module, with the bundled model beside it."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setenv("TWOFILE", str(ROOT))

    def loaded(name):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return loaded


def alone(folder):
    return call(folder / "model.bin", "--batch", folder / "requests.jsonl", "-s", "1", "-q", "-np", "1").stdout.decode()


def test_embedded(folder):
    done = shell(folder, sys.executable, EXAMPLES / "embed.py", "the fox")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    m = Model(folder / "model.bin", verbose=False)
    assert done.stdout.startswith(m.generate(m.encode_chat([{"role": "user", "content": "the fox"}]), max_tokens=60, seed=1))
    assert done.stdout.endswith("".join(f"{t!r}\n" for t in m.batch(["The fox", "The hen", "The cat"], max_tokens=12, seed=1)))


def test_gnu_parallel(folder):
    if not shutil.which("parallel"):
        pytest.skip("GNU parallel is not installed")
    want = alone(folder)
    for n in ("1", "2", "3"):
        done = shell(folder, EXAMPLES / "parallel.sh", "requests.jsonl", "answers.jsonl", n)
        assert done.returncode == 0 and (folder / "answers.jsonl").read_text() == want, (n, done.stderr)
    (folder / "requests.jsonl").write_text(REQUESTS + "[]\n")
    done = shell(folder, EXAMPLES / "parallel.sh", "requests.jsonl", "answers.jsonl", "2", "--temp", "0")
    assert done.returncode == 1 and '"error"' in (folder / "answers.jsonl").read_text()
    assert sorted(p.name for p in folder.iterdir()) == ["answers.jsonl", "bin", "model.bin", "requests.jsonl", "run.py"]


def test_slurm_array(folder):
    """The script is a shell script to all but Slurm; its variables say which part is whose."""
    rows = []
    for task in range(2, 5):  # an array need not begin at 0
        variables = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "2"}
        done = shell(folder, EXAMPLES / "slurm.sh", "requests.jsonl", "answers", **variables)
        assert done.returncode == 0, done.stderr
        rows.append((folder / f"answers.{task}.jsonl").read_text().splitlines())
    joined = [rows[i % 3][i // 3] for i in range(5)]
    assert joined == alone(folder).splitlines()


def test_ray(folder):
    """Two workers write what one process writes."""
    pytest.importorskip("ray")
    done = shell(folder, sys.executable, EXAMPLES / "ray_batch.py", "requests.jsonl", "answers.jsonl", "--max-tokens", "12")
    assert done.returncode == 0, done.stderr[-2000:]
    m = Model(folder / "model.bin", verbose=False)
    rows = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == PROMPTS
    assert [row["text"] for row in rows] == m.batch(PROMPTS, max_tokens=12, seed=1, places=1)


@contextlib.asynccontextmanager
async def running(app):
    """An application as a server would have it -> the streams that its model made."""
    streams = []
    async with app.router.lifespan_context(app):
        astream = app.state.model.astream
        app.state.model.astream = lambda *given, **how: streams.append(astream(*given, **how)) or streams[-1]
        yield streams


async def posted(app, path, body, gone=None, spec="2.3"):
    """-> (status, [pieces of the body]) of a request whose client goes away once the event gone is set."""
    sent, asked, gone = [], iter([json.dumps(body).encode()]), gone or asyncio.Event()

    async def receive():
        for raw in asked:
            return {"type": "http.request", "body": raw}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if gone.is_set() and spec > "2.3":
            raise OSError
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
    with contextlib.suppress(sys.modules["starlette.requests"].ClientDisconnect):
        await app({**scope, "asgi": {"version": "3.0", "spec_version": spec}}, receive, send)
    return sent[0]["status"] if sent else None, [m.get("body", b"").decode() for m in sent[1:]]


def test_fastapi(example):
    """Many at once, each the text that it would get alone; what is refused, in which words; who goes away frees a place."""
    pytest.importorskip("fastapi", reason="needs FastAPI: pip install fastapi")
    app = example("fastapi_app").app
    asks = [{"prompt": p, "max_tokens": 20, "seed": n} for n, p in enumerate(["The fox", "One day", "A hen"])]

    async def all_at_once():
        async with running(app):
            found = await asyncio.gather(*[posted(app, path, ask) for ask in asks for path in ("/answer", "/text")])
            wrong = {"prompt": "a " * 999}, {"max_tokens": 0}
            return found, app.state.model, [await posted(app, "/text", ask) for ask in wrong]

    found, model, refused = asyncio.run(all_at_once())
    want = [Model(ROOT / "model.bin", verbose=False).generate(**ask) for ask in asks]
    assert [json.loads(body[0]) for _, body in found[::2]] == [{"text": text, "finish_reason": "length"} for text in want]
    assert ["".join(body) for _, body in found[1::2]] == want and min(len(body) for _, body in found[1::2]) > 10
    assert [status for status, _ in refused] == [400, 422] and "shorten it" in refused[0][1][0]
    assert model.scheduler.closed

    async def left(path, spec):
        async with running(app) as streams:
            gone = asyncio.Event()
            ask = posted(app, path, {"prompt": "One day, a little fox", "temperature": 0, "max_tokens": 400}, gone, spec)
            asking = asyncio.ensure_future(ask)
            while not (streams and streams[0].stream.w.count > 3):
                await asyncio.sleep(0.001)
            gone.set()
            await asyncio.wait_for(asking, 20)
            while app.state.model.scheduler.active:
                await asyncio.sleep(0.001)
            return streams[0].stream.w

    for path, spec in (("/answer", "2.3"), ("/text", "2.3"), ("/text", "2.4")):
        w = asyncio.run(asyncio.wait_for(left(path, spec), 60))
        assert w.reason == "closed" and 3 < w.count < 300, (path, spec, w.reason, w.count)


def test_asyncio(folder, example):
    done = shell(folder, sys.executable, EXAMPLES / "async_many.py", "the fox", "hen", "--max-tokens", "12")
    m = Model(folder / "model.bin", verbose=False)
    texts = "".join(f"{p!r}: {m.generate(p, max_tokens=12, seed=1)!r}\n" for p in ("the fox", "hen"))
    assert done.stdout == f"{texts}the first: {m.generate('the fox', max_tokens=2, seed=1)!r}\n", done.stderr
    m, written = Model(ROOT / "model.bin", verbose=False), example("async_many").written
    whole = m.generate("The fox", seed=1, ignore_eos=True)
    text, is_all = asyncio.run(written(m, "The fox", 0.05, seed=1, ignore_eos=True))
    assert not is_all and whole.startswith(text) and len(text) < len(whole)
    assert not m.scheduler.active and asyncio.run(written(m, "The fox", 60, seed=1, ignore_eos=True)) == (whole, True)


def test_pandas(folder, example, monkeypatch):
    """Cells stay as they are, an empty one is not answered. And the line of the shell."""
    pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    table, program = folder / "in.csv", example("pandas_column")
    table.write_text('name,n\nfox,007\n,1\n"hen, red",\nNA,2\n')

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["pandas_column.py", str(table), str(folder / "out.csv"), *words])
        program.main()

    run("--column", "name", "--ask", "the {}")
    rows = list(csv.reader((folder / "out.csv").open(newline="")))
    m = Model(ROOT / "model.bin", verbose=False)
    asked = [[{"role": "user", "content": f"the {name}"}] for name in ("fox", "hen, red", "NA")]
    texts = m.batch([m.encode_chat(messages) for messages in asked], max_tokens=40, seed=1)
    assert rows[:3] == [["name", "n", "text"], ["fox", "007", texts[0]], ["", "1", ""]]
    assert rows[3:] == [["hen, red", "", texts[1]], ["NA", "2", texts[2]]]
    with pytest.raises(SystemExit, match="in.csv has the columns name, n: choose"):
        run("--column", "nobody")
    if not shutil.which("jq"):
        pytest.skip("jq is not installed")
    (folder / "asked.txt").write_text("the fox\nthe hen, red\nthe NA\n")
    (line,) = re.findall(r"^    (jq .*)$", (EXAMPLES / "pandas_column.py").read_text(), re.M)
    done = shell(folder, "bash", "-euo", "pipefail", "-c", line)
    m = Model(folder / "model.bin", verbose=False)
    texts = [m.generate(m.encode_chat(messages), 40, seed=line_seed(1, n)) for n, messages in enumerate(asked, 1)]
    assert [json.loads(line) for line in done.stdout.splitlines()] == texts, done.stderr


def test_notebook(monkeypatch):
    """Executed, its outputs are those that stand in it. To write them anew: nbclient's execute() as here, nbformat.write()."""
    nbformat = pytest.importorskip("nbformat", reason="needs nbclient: pip install nbclient ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient: pip install nbclient ipykernel")
    pytest.importorskip("ipykernel", reason="needs ipykernel: pip install ipykernel")
    stored = nbformat.read(EXAMPLES / "notebook.ipynb", 4)
    nbformat.validate(stored)
    monkeypatch.delenv("TWOFILE", raising=False)
    fresh = nbformat.from_dict(stored)
    for cell in fresh.cells:
        cell.update({"outputs": [], "execution_count": None} if cell.cell_type == "code" else {})
    client = nbclient.NotebookClient(fresh, timeout=120, record_timing=False, coalesce_streams=True)
    client.execute(cwd=str(EXAMPLES))
    assert [cell.get("outputs") for cell in fresh.cells] == [cell.get("outputs") for cell in stored.cells]
    assert sum(bool(cell.get("outputs")) for cell in stored.cells) >= 5


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


def test_lm_eval(folder):
    """Accuracies and log-likelihoods as the harness counts them are those counted by hand."""
    lm_eval, tasks = pytest.importorskip("lm_eval"), pytest.importorskip("lm_eval.tasks")
    words = ["red", "hen", "the fox"]
    docs = [{"question": q, "answer": a} for q, a in (("the", 0), ("a fox", 1), ("hen and", 2), ("fox", 1), ("the hen", 2))]
    (folder / "foxes.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    sys.path.insert(0, str(EXAMPLES))
    from lm_eval_model import TwoFile

    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    os.environ["HF_HOME"] = str(folder / "hf")
    model = TwoFile(folder / "model.bin")

    def measure(kind, more):
        (folder / "foxes.yaml").write_text(TASK.format(folder=folder, kind=kind, more=more))
        manager = tasks.TaskManager(include_path=str(folder), include_defaults=False)
        found = lm_eval.simple_evaluate(model=model, tasks=["foxes"], task_manager=manager, bootstrap_iters=0)
        return found["results"]["foxes"]

    m = model.model
    found = measure("multiple_choice", f"doc_to_choice: {json.dumps(words)}")
    best = [max(range(3), key=lambda i, q=d["question"]: m.loglikelihood(q, " " + words[i])[0]) for d in docs]
    assert found["acc,none"] == sum(b == d["answer"] for b, d in zip(best, docs)) / 5
    found = measure("loglikelihood_rolling", "metric_list: [{metric: bits_per_byte}]")
    nats = [m.loglikelihood_rolling(str(d["answer"])) for d in docs]
    assert found["bits_per_byte,none"] == pytest.approx(-sum(nats) / 0.6931471805599453 / 5)
    found = measure("generate_until", "generation_kwargs: {until: [e], max_gen_toks: 10}\nmetric_list: [{metric: exact_match}]")
    texts = [m.generate(d["question"], max_tokens=10, temperature=0, stop=["e"]) for d in docs]
    assert found["exact_match,none"] == sum(t == str(d["answer"]) for t, d in zip(texts, docs)) / 5
    asked = [SimpleNamespace(args=(d["question"], {"until": ["e"], "max_gen_toks": 10})) for d in docs]
    assert model.generate_until(asked) == texts


def test_llm_plugin(folder):
    llm = pytest.importorskip("llm")
    code = f"""
import sys
sys.path.insert(0, {str(EXAMPLES / "llm")!r})
import llm, llm_twofile
from llm.plugins import pm
pm.register(llm_twofile)
model = llm.get_model("twofile/model")
talk = model.conversation()
first = talk.prompt("the fox", system="be kind", max_tokens=9, seed=4)
print(repr(first.text()), repr(talk.prompt("and", max_tokens=9, seed=4).text()), first.input_tokens, first.output_tokens)
try:
    model.prompt("x" * 999).text()
except llm.ModelError as e:
    print(e)
"""
    done = shell(folder, sys.executable, "-c", code, LLM_USER_PATH=str(folder / "llm"))
    assert done.returncode == 0, done.stderr
    m = Model(folder / "model.bin", verbose=False)
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "the fox"}]
    ids = m.encode_chat(messages)
    first = m.generate(ids, max_tokens=9, seed=4)
    more = [*messages, {"role": "assistant", "content": first}, {"role": "user", "content": "and"}]
    second = m.generate(m.encode_chat(more), max_tokens=9, seed=4)
    said = done.stdout.splitlines()
    assert said[0].startswith(f"{first!r} {second!r} {len(ids)} ") and "tokens" in said[1]
    assert llm.__name__ == "llm"


def lines():
    """The commands of the README's pipe."""
    block = re.search(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.S).group(1)
    return [line.split("  #")[0].rstrip() for line in block.splitlines()]


@pytest.mark.parametrize("line", lines())
def test_lines_of_the_readme(line, folder):
    if "json-schema" in line:
        pytest.importorskip("llguidance")
    for tool in ("git", "jq"):
        if re.search(rf"\b{tool} ", line) and not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    (folder / "story.txt").write_text("the fox and the hen\n" * 3)
    (folder / "requests.jsonl").write_text('"the fox"\n{"prompt": "the hen", "max_tokens": 4}\n')
    if "git" in line:
        subprocess.run("git init -q && git add story.txt && echo more >> story.txt", shell=True, cwd=folder, check=True)
    done = shell(folder, "bash", "-euo", "pipefail", "-c", line)
    assert done.returncode == 0 and (done.stdout.strip() or "-o answers.jsonl" in line), done.stderr
    assert "-o answers.jsonl" not in line or len((folder / "answers.jsonl").read_text().splitlines()) == 2


def recipes():
    block = re.search(r"```sh\n(.*?)```", (ROOT / "docs" / "usage.md").read_text(), re.S).group(1)
    return {text.split("\n")[0][2:]: text for text in re.split(r"\n\n(?=# )", block)}


@pytest.mark.parametrize("name", recipes())
def test_recipes(name, folder):
    """Each recipe of docs/usage.md, on a folder with a model, notes and names, and a repository in which something changed."""
    text = recipes()[name]
    for tool in ("git", "jq", "parallel"):
        if re.search(rf"\b{tool} ", text) and not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    (folder / "notes.txt").write_text("the fox and the hen\n" * 3)
    (folder / "names.txt").write_text("Ann\nBen\nCid\n")
    if "git" in text:
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
        for command in (["init", "-q"], ["add", "names.txt"], ["commit", "-qm", "names"]):
            subprocess.run([*git, *command], cwd=folder, check=True)
        (folder / "names.txt").write_text("Ann\nBen\nDot\n")
    done = shell(folder, "bash", "-euo", "pipefail", "-c", text, SHELL="/bin/bash")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    if "summary" in name:
        assert (folder / "summary.txt").read_text().strip()
    elif "names.txt" in text:
        assert len(done.stdout.splitlines()) >= 3
    elif "yes or no" in name:
        m = Model(folder / "model.bin", verbose=False)
        ids = m.encode_chat([{"role": "user", "content": (folder / "notes.txt").read_text() + "Was the fox happy?"}])
        yes, no = (m.loglikelihood(ids, m.tokenize(word, add_bos=False))[0] for word in ("yes", "no"))
        assert done.stdout == ("happy\n" if yes > no else "")
    elif "jq" in text:
        assert 0 <= int(done.stdout.split()[0]) <= 20 and float(done.stdout.split()[1]) >= 0
    else:
        assert done.stdout
