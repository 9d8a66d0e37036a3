"""tokenizer.json: written whole, read completely or refused in one line, whoever made the file."""

import base64
import hashlib
import json
import time
import tracemalloc

import pytest

from microgpt.tokenizer import Tokenizer, TokenizerError, file_format

TOY = Tokenizer([(ord("a"), ord("b")), (256, ord("c")), (ord(" "), 257)], ["<|end|>", "<|ü|>"])


@pytest.fixture
def content(tmp_path):
    """What TOY writes."""
    TOY.save(tmp_path / "t.json")
    return json.loads((tmp_path / "t.json").read_bytes())


def load(tmp_path, content):
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (tmp_path / "x.json").write_bytes(data)
    return Tokenizer.load(tmp_path / "x.json")


def test_round_trip(tmp_path, tok):
    for tokenizer in (TOY, tok, Tokenizer([], ())):
        tokenizer.save(tmp_path / "t.json")
        again = Tokenizer.load(tmp_path / "t.json")
        assert again == tokenizer
        written = hashlib.sha256((tmp_path / "t.json").read_bytes()).hexdigest()
        assert written == tokenizer.sha256 == again.sha256
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]


def test_the_hash_is_that_of_the_content_not_of_the_layout(tmp_path, content):
    assert load(tmp_path, json.dumps(content, indent=2).encode()).sha256 == TOY.sha256


def test_tokens_are_written_in_gpt2s_alphabet(content):
    assert content["model"]["vocab"]["Ġabc"] == 258
    assert content["model"]["merges"] == [["a", "b"], ["ab", "c"], ["Ġ", "abc"]]
    assert content["added_tokens"][1]["content"] == "<|ü|>" and content["model"]["vocab"]["<|ü|>"] == 260


def test_the_older_form_of_merges_is_read(tmp_path, content):
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    assert load(tmp_path, content) == TOY


def test_a_file_without_our_key_is_read(tmp_path, content):
    del content["pre_tokenizer"]["unicode"]
    content["post_processor"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False}
    assert load(tmp_path, content) == TOY


def change(*path, value):
    def apply(content):
        *parents, last = path
        for key in parents:
            content = content[key]
        content[last] = value

    return apply


def remove(*path):
    def apply(content):
        *parents, last = path
        for key in parents:
            content = content[key]
        del content[last]

    return apply


def swap_ids(content):
    vocab = content["model"]["vocab"]
    vocab["ab"], vocab["abc"] = vocab["abc"], vocab["ab"]


HOSTILE = {
    "wrong version": (change("version", value="2.0"), "version"),
    "no version": (remove("version"), "version"),
    "no model": (remove("model"), "model"),
    "model is a list": (change("model", value=[]), "model"),
    "word piece": (change("model", "type", value="WordPiece"), "type of model"),
    "dropout": (change("model", "dropout", value=1), "dropout"),
    "unknown token": (change("model", "unk_token", value="<unk>"), "unk_token"),
    "byte fallback": (change("model", "byte_fallback", value=True), "byte_fallback"),
    "ignores merges": (change("model", "ignore_merges", value=True), "ignore_merges"),
    "word suffix": (change("model", "end_of_word_suffix", value="</w>"), "end_of_word_suffix"),
    "normalizer": (change("normalizer", value={"type": "NFC"}), "normalizer"),
    "truncation": (change("truncation", value={"max_length": 5}), "truncation"),
    "prefix space": (change("pre_tokenizer", "add_prefix_space", value=True), "add_prefix_space"),
    "other pattern": (change("pre_tokenizer", "use_regex", value=False), "use_regex"),
    "no splitter": (change("pre_tokenizer", value=None), "pre_tokenizer"),
    "other splitter": (change("pre_tokenizer", "type", value="Whitespace"), "type of pre_tokenizer"),
    "other Unicode": (change("pre_tokenizer", "unicode", value="17.0.0"), "unicode"),
    "no decoder": (change("decoder", value=None), "decoder"),
    "template": (change("post_processor", value={"type": "TemplateProcessing"}), "post_processor"),
    "vocab is a list": (change("model", "vocab", value=[]), "vocab"),
    "hole in the ids": (change("model", "vocab", "abc", value=300), "vocab"),
    "id twice": (change("model", "vocab", "abc", value=256), "vocab"),
    "negative id": (change("model", "vocab", "abc", value=-1), "vocab"),
    "huge id": (change("model", "vocab", "abc", value=10**40), "number"),
    "fraction": (change("model", "vocab", "abc", value=1.5), "number"),
    "id is true": (change("model", "vocab", "abc", value=True), "has no id"),
    "id is a list": (change("model", "vocab", "abc", value=[1]), "has no id"),
    "byte missing": (remove("model", "vocab", "a"), "vocab"),
    "token too many": (change("model", "vocab", "zz", value=261), "261"),
    "bytes in another order": (lambda c: c["model"]["vocab"].update(a=98, b=97), "must be 'a'"),
    "merges is a dict": (change("model", "merges", value={}), "merges"),
    "merge of three": (change("model", "merges", 0, value=["a", "b", "c"]), "no pair"),
    "merge of one": (change("model", "merges", 0, value="ab"), "no pair"),
    "merge is null": (change("model", "merges", 0, value=None), "no pair"),
    "merge of numbers": (change("model", "merges", 0, value=[97, 98]), "has no id"),
    "merge of lists": (change("model", "merges", 0, value=[["a"], ["b"]]), "has no id"),
    "merge of unknown": (change("model", "merges", 0, value=["qq", "b"]), "has no id"),
    "merge without result": (change("model", "merges", 0, value=["a", "c"]), "must make"),
    "merge of later tokens": (swap_ids, "must make"),
    "merge twice": (change("model", "merges", 1, value=["a", "b"]), "must make"),
    "merge missing": (lambda c: c["model"]["merges"].pop(), "tokens"),
    "added is a dict": (change("added_tokens", value={}), "added_tokens"),
    "added of null": (change("added_tokens", 0, value=None), "added_tokens"),
    "added missing": (lambda c: c["added_tokens"].pop(), "tokens"),
    "added has another id": (change("added_tokens", 0, "id", value=5), "id of added token"),
    "added strips": (change("added_tokens", 0, "lstrip", value=True), "lstrip"),
    "added not in vocab": (change("added_tokens", 0, "content", value="<x>"), "vocab too"),
    "added is a number": (change("added_tokens", 0, "content", value=5), "vocab too"),
    "added is no special": (change("added_tokens", 0, "special", value=False), "special"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_content_is_refused(name, tmp_path, content):
    spoil, word = HOSTILE[name]
    spoil(content)
    with pytest.raises(TokenizerError, match=word) as caught:
        load(tmp_path, content)
    message = str(caught.value)
    assert "x.json" in message and "\n" not in message and len(message) < 400


BROKEN = {
    "empty": b"",
    "no JSON": b"hello",
    "a list": b"[]",
    "not UTF-8": b'{"version": "\xff"}',
    "UTF-16": '{"version": "1.0"}'.encode("utf-16"),
    "nested lists": b"[" * 200_000,
    "nested objects": b'{"a":' * 200_000,
    "long number": b'{"version":' + b"9" * 1_000_000 + b"}",
    "exponent": b'{"version": 1e999999999}',
    "not a number": b'{"version": NaN}',
    "key twice": b'{"version": "1.0", "version": "1.0"}',
    "many lists": b"[" + b"[]," * 300_000 + b"[]]",
    "many strings": b"[" + b'"ab",' * 600_000 + b'""]',
    "too long": b" " * (file_format.MAX_FILE_BYTES + 1),
    "zeros": bytes(1_000_000),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused_at_once(name, tmp_path):
    start = time.process_time()
    json.loads(BROKEN["many strings"])
    parsed = time.process_time()
    with pytest.raises(TokenizerError) as caught:
        load(tmp_path, BROKEN[name])
    assert time.process_time() - parsed < 50 * (parsed - start), "some times as long as good files take"
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


LONG = {
    "characters whose repr is long": "\u0378" * 4_000_000 + "🙂",
    "many spaces": ["a b" * 2_600_000 + "🙂", "a", "a"],
}


@pytest.mark.parametrize("name", LONG)
def test_a_long_string_takes_no_more_memory_than_promised(name, content):
    content["model"]["merges"] = LONG[name]
    data = json.dumps(content, ensure_ascii=False).encode()
    tracemalloc.start()
    try:
        with pytest.raises(TokenizerError, match="merges: "):
            file_format.from_json(data)
        assert tracemalloc.get_traced_memory()[1] < len(data) + (64 << 20)
    finally:
        tracemalloc.stop()


def test_a_key_twice_deep_inside(tmp_path, content):
    text = json.dumps(content).replace('"ab": 256,', '"ab": 256, "ab": 256,')
    with pytest.raises(TokenizerError, match="'ab' occurs twice"):
        load(tmp_path, text.encode())


def test_every_truncation_is_refused(tmp_path, content):
    data = json.dumps(content).encode()
    for n in [*range(0, len(data), 97), len(data) - 1]:
        with pytest.raises(TokenizerError):
            load(tmp_path, data[:n])


def test_errors_of_the_disk_are_one_line(tmp_path):
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(TokenizerError, match="cannot be read"):
            Tokenizer.load(path)
    with pytest.raises(TokenizerError, match="cannot be written"):
        TOY.save(tmp_path / "no" / "such" / "folder.json")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    TOY.save(tmp_path / "t.json")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(TokenizerError, match="No space left"):
        Tokenizer([]).save(tmp_path / "t.json")
    assert Tokenizer.load(tmp_path / "t.json") == TOY
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]


def test_tiktoken_file(tmp_path):
    TOY.save_tiktoken(tmp_path / "t.tiktoken")
    lines = (tmp_path / "t.tiktoken").read_text().splitlines()
    assert [int(line.split()[1]) for line in lines] == list(range(259))
    assert [base64.b64decode(line.split()[0]) for line in lines] == TOY.token_bytes[:259]
