"""GGUFs of several files, as llama-gguf-split writes them."""

import re

import numpy as np
import pytest

from helpers.checkpoints import same, tensors
from twofile.export.main import main

gguf = pytest.importorskip("gguf")
SIZES = {"token_embd": (40, 32), "output_norm": (32,), "output": (40, 32)}
SIZES |= {f"blk.0.attn_{x}": (32, 32) for x in ("q", "k", "v", "output")} | {"blk.0.ffn_norm": (32,), "blk.0.attn_norm": (32,)}
SIZES |= {"blk.0.ffn_gate": (64, 32), "blk.0.ffn_up": (64, 32), "blk.0.ffn_down": (32, 64)}
NAMES = [name + ".weight" for name in SIZES]


def arrays():
    rng = np.random.default_rng(0)
    return {name + ".weight": rng.standard_normal(size).astype(np.float32) for name, size in SIZES.items()}


def metadata(w):
    w.add_context_length(64)
    w.add_embedding_length(32)
    w.add_block_count(1)
    w.add_feed_forward_length(64)
    w.add_head_count(4)
    w.add_layer_norm_rms_eps(1e-5)


def written(path, names, first=True, **split):
    """A file of these tensors; first: with the metadata; split: the keys of a part."""
    w = gguf.GGUFWriter(str(path), "llama")
    if first:
        metadata(w)
    else:
        w.kv_data[0].clear()  # only the first says what it is
    kinds = {"no": w.add_uint16, "count": w.add_uint16, "tensors_count": w.add_int32}
    for key, value in split.items():
        kinds[key]("split." + key.replace("_", "."), value)
    for name in names:
        w.add_tensor(name, arrays()[name])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path


def parts(folder, cuts):
    """Parts of these tensors each -> their paths."""
    n = len(cuts)
    return [
        written(
            folder / f"m-{i + 1:05}-of-{n:05}.gguf",
            names,
            i == 0,
            no=i,
            count=n,
            tensors_count=len(NAMES),
        )
        for i, names in enumerate(cuts)
    ]


def converted(path, *flags):
    """-> exit code, the tensors of the model file."""
    out = path.parent / "m.bin"
    code = main([str(path), "-o", str(out), "--tokenizer", "none", "--overwrite", *flags])
    return code, tensors(out) if out.exists() else None


CUTS = {
    "two": [NAMES[:5], NAMES[5:]],
    "three": [NAMES[:1], NAMES[1:9], NAMES[9:]],
    "metadata alone first": [[], NAMES[:7], NAMES[7:]],
    "one each": [[name] for name in NAMES],
}


@pytest.mark.parametrize("cuts", CUTS)
def test_any_part_gives_the_whole(cuts, tmp_path):
    whole = converted(written(tmp_path / "whole.gguf", NAMES))
    assert whole[0] == 0 and "l0.qkv" in whole[1]
    for path in parts(tmp_path, CUTS[cuts]):
        (tmp_path / "m.bin").unlink()
        code, found = converted(path)
        assert code == 0 and same(found, whole[1])


def test_a_split_into_one_is_whole(tmp_path):
    assert converted(written(tmp_path / "a.gguf", NAMES, no=0, count=1, tensors_count=len(NAMES)))[0] == 0


def lose(*numbers):
    def harm(paths):
        for i in numbers:
            paths[i].unlink()

    return harm


def swap(paths):
    one, two = paths[1].read_bytes(), paths[2].read_bytes()
    paths[1].write_bytes(two)
    paths[2].write_bytes(one)


def rename(paths):
    paths[0].rename(paths[0].with_name("model.gguf"))


def other(name, **split):
    """A part of another download in the place of the second."""
    return lambda paths: written(paths[1], [name], False, **split)


def whole_second(paths):
    written(paths[1], NAMES[:3])


HARMS = {
    "the first": (lose(0), 1, "1 of 3 missing: m-00001-of-00003.gguf; expected all of them beside it; finish"),
    "the last": (lose(2), 0, "1 of 3 missing: m-00003-of-00003.gguf; expected"),
    "two": (lose(0, 1), 2, "2 of 3 missing: m-00001-of-00003.gguf, m-00002-of-00003.gguf; expected"),
    "in another order": (swap, 0, r"m-00002-of-00003.gguf: split.no.* are \[2, 3, 12\], expected \[1, 3, 12\]; are all"),
    "another name": (
        rename,
        "model.gguf",
        "model.gguf: one of several parts of a GGUF, of 3 by what it says; expected the name",
    ),
    "of another total": (other(NAMES[1], no=1, count=3, tensors_count=9), 0, r"are \[1, 3, 9\], expected \[1, 3, 12\]"),
    "of another count": (other(NAMES[1], no=1, count=4, tensors_count=12), 0, r"are \[1, 4, 12\], expected \[1, 3, 12\]"),
    "a whole one among them": (whole_second, 0, r"are \[None, None, None\], expected \[1, 3, 12\]"),
    "the same tensor": (
        other(NAMES[0], no=1, count=3, tensors_count=12),
        0,
        "token_embd.weight stands in two parts; expected each",
    ),
    "too few": (other(NAMES[1], no=1, count=3, tensors_count=12), 0, "its parts hold 5 tensors; expected 12; are all"),
    "cut short": (lambda paths: paths[2].write_bytes(paths[2].read_bytes()[:-40]), 0, "not a whole GGUF"),
    "a folder": (lambda paths: (paths[1].unlink(), paths[1].mkdir()), 0, "1 of 3 missing: m-00002-of-00003.gguf"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_parts_that_are_not_all_there_or_not_of_one_whole(harm, tmp_path, capsys):
    change, given, says = HARMS[harm]
    paths = parts(tmp_path, [NAMES[:1], NAMES[1:9], NAMES[9:]])
    change(paths)
    path = tmp_path / given if isinstance(given, str) else paths[given]
    assert converted(path) == (1, None)
    err = capsys.readouterr().err
    assert re.search(says, err) and "Traceback" not in err, err


@pytest.mark.parametrize("count", [2, 65535])
def test_a_count_that_is_not_the_names(count, tmp_path, capsys):
    path = written(tmp_path / "m-00001-of-00003.gguf", NAMES, no=0, count=count, tensors_count=12)
    assert converted(path) == (1, None)
    assert f"of {count} by what it says; expected the name" in capsys.readouterr().err


def test_thousands_of_parts_are_counted_not_listed(tmp_path, capsys):
    path = written(tmp_path / "m-00001-of-65535.gguf", NAMES, no=0, count=65535, tensors_count=12)
    assert converted(path) == (1, None)
    err = capsys.readouterr().err
    assert "65534 of 65535 missing: m-00002-of-65535.gguf, " in err and "…; expected" in err and len(err) < 500


def test_what_the_package_gguf_splits(tmp_path):
    """Its own writer: some tensors a file, as convert_hf_to_gguf.py --split-max-tensors has it."""
    whole = converted(written(tmp_path / "whole.gguf", NAMES))
    w = gguf.GGUFWriter(str(tmp_path / "x.gguf"), "llama", split_max_tensors=5)
    metadata(w)
    for name, array in arrays().items():
        w.add_tensor(name, array)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    paths = sorted(tmp_path.glob("x-0*.gguf"))
    assert len(paths) == 3
    for path in paths:
        code, found = converted(path)
        assert code == 0 and same(found, whole[1])


@pytest.mark.parametrize("end", ["part1of2", "part2of2"])
@pytest.mark.parametrize("sign", [".", "-split-"])
def test_pieces_of_bytes_are_to_be_joined(sign, end, tmp_path, capsys):
    """As files too large for the Hub were cut before there were parts."""
    raw = written(tmp_path / "whole.gguf", NAMES).read_bytes()
    end = end if sign == "." else "a" if "1of" in end else "b"
    path = tmp_path / f"m.gguf{sign}{end}"
    path.write_bytes(raw[:9000] if end in ("a", "part1of2") else raw[9000:])
    assert converted(path) == (1, None)
    assert "one piece of a GGUF that was cut into pieces of bytes; expected the whole; join" in capsys.readouterr().err


def test_the_tokenizer_of_any_part(tmp_path):
    """It stands in the first."""
    w = gguf.GGUFWriter(str(tmp_path / "x.gguf"), "llama", split_max_tensors=6)
    metadata(w)
    w.add_tokenizer_model("llama")
    w.add_token_list(
        ["<unk>", "<s>", "</s>", *map(chr, range(97, 121)), "ab", "abc", "\u2581a", *(f"<0x{i:02X}>" for i in range(10))]
    )
    w.add_token_scores([-float(i) for i in range(40)])
    w.add_token_types([2, 3, 3] + [1] * 27 + [6] * 10)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    for name, array in arrays().items():
        w.add_tensor(name, array)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    found = []
    for path in sorted(tmp_path.glob("x-0*.gguf")):
        out = tmp_path / "t.bin"
        assert main([str(path), "--tokenizer-only", "-o", str(out), "--overwrite"]) == 0
        found.append(out.read_bytes())
    assert len(found) == 2 and found[0] == found[1]
