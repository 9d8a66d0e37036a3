import gzip
import json
import os
import tracemalloc

import pyarrow
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import Table, parquet

from microgpt.common.errors import ConfigError, DataError
from microgpt.corpus.chat import ROLES, Message, texts
from microgpt.corpus.reading import plain_text
from microgpt.corpus.reading.detection import detect
from microgpt.corpus.reading.formats import read_documents
from microgpt.corpus.reading.options import ReadOptions, Skipped
from tests.corpus.lines import chat_line

SKIP = ReadOptions(bad_lines="skip")
WHOLE = ReadOptions(text_documents="file")


def read(*paths, **how):
    return list(read_documents(paths, **how))


FILES = {
    "text": "One line.\nAnd one more.\n\nAnother paragraph.\n",
    "jsonl": chat_line("hi", "hello"),
    "json": json.dumps([{"text": "one"}, {"text": "two"}], indent=1),
    "dailydialog": "Hi , Ann . __eou__ Hello to you , Ben ! __eou__\n",
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("before", ["", "\ufeff", "\n \n"])
def test_the_format_is_known_by_content(write, kind, before):
    assert detect(write("data.bin", before + FILES[kind])) == kind
    assert read(write("data.bin", before + FILES[kind])) == read(write("plain", FILES[kind]))


@pytest.mark.parametrize("text", ["[Scene: a room]\n\nHello.", "{curly} words", '"quoted"', "123"])
def test_prose_that_begins_like_json_is_text(write, text):
    assert detect(write("x", text)) == "text"


def test_paragraphs_are_documents(write):
    path = write("x.txt", "\n\na\nb\r\nc\n \n\n  d\n\n\n")
    assert read(path) == ["a\nb\nc", "  d"]


def test_a_whole_file_can_be_one_document(write):
    assert read(write("x.txt", "a\n\nb\n"), options=WHOLE) == ["a\n\nb"]


def test_text_without_blank_lines_is_one_document(write):
    assert read(write("x.txt", "a\nb\nc")) == ["a\nb\nc"]


@pytest.mark.parametrize("text", ["".join(f"line {i}\n" for i in range(500)), "äöü€𝄞" * 300, "é" * 50])
def test_a_very_long_text_is_divided_and_nothing_is_lost(write, monkeypatch, text):
    monkeypatch.setattr(plain_text, "MAX_TEXT_BYTES", 100)
    documents = read(write("x.txt", text))
    assert max(len(d.encode()) for d in documents) <= 100
    assert "".join(documents).replace("\n", "") == text.replace("\n", "")


def test_dailydialog_lines_may_end_in_cr(write):
    text = "a __eou__ b __eou__\nc __eou__\n"
    assert read(write("x", text.replace("\n", "\r"))) == read(write("y", text))


def test_dailydialog_turns_alternate(write):
    path = write("x", "Hi , Ann . __eou__ It ' s you ! __eou__ Yes . __eou__\nNo end __eou__ here\n")
    first, second = read(path)
    assert first == [Message("user", "Hi, Ann."), Message("assistant", "It's you!"), Message("user", "Yes.")]
    assert second[1] == Message("assistant", "here")


def test_jsonl_may_mix_formats(write):
    path = write("x", chat_line("q", "a") + '\n{"text": "plain"}\n{"data": ["q", "a"]}\n')
    chat = [Message("user", "q"), Message("assistant", "a")]
    assert read(path) == [chat, "plain", chat]


@pytest.mark.parametrize(
    "text",
    [
        '[{"text": "a"}, {"text": "b"}]',
        '[\n {"text": "a"}\n,\n {"text": "b"}\n]\n',
        '{\n "text": "a"\n}\n{\n "text": "b"\n}\n',
    ],
)
def test_json_arrays_and_pretty_objects(write, text):
    assert read(write("x.json", text)) == ["a", "b"]


@pytest.mark.parametrize(
    "text, place",
    [
        ('[{"text": "a"}, {"text": "b"}, {"texts": "c"}]', "1: record 3: keys of no known"),
        ('[{"text": "a"},\n {"text": ""}]', "2: record 2: the text is empty"),
        ('[{"text": "a"}, {"text": "b"} {"text": oh}]', r"1: not valid JSON .* record 3 \(Expecting value\)"),
    ],
)
def test_an_error_in_an_array_names_the_record(write, text, place):
    with pytest.raises(DataError, match=rf"x\.json:{place}"):
        read(write("x.json", text))


def test_keys_of_ones_own_are_read_in_every_format(write, write_rows):
    rows, options = [{"frage": "q", "antwort": "a", "n": 1}] * 2, ReadOptions(keys="frage, antwort")
    chat = [Message("user", "q"), Message("assistant", "a")]
    lines = "\n".join(map(json.dumps, rows))
    for path in (write("x.jsonl", lines), write("x.json", json.dumps(rows)), write_rows("x.parquet", rows)):
        assert read(path, options=options) == [chat] * 2
        with pytest.raises(DataError, match="--keys QUESTION,ANSWER"):
            read(path)


def test_a_json_array_larger_than_the_window(write):
    items = [{"text": f"é{i} " * 9000} for i in range(60)]
    assert read(write("x.json", json.dumps(items, ensure_ascii=False))) == [item["text"] for item in items]


def test_compressed_files_read_the_same(write):
    plain = chat_line("hi", "hello") * 3
    assert read(write("a", gzip.compress(plain.encode()))) == read(write("b", plain))


def test_zstandard_files_read_the_same(write):
    plain = chat_line("hi", "hello") * 3
    frames = zstandard.compress(plain.encode()) + zstandard.compress(chat_line("one", "more").encode())
    assert read(write("a", frames)) == read(write("b", plain + chat_line("one", "more")))


@pytest.mark.parametrize("kind", ["gzip", "zstandard"])
def test_a_compressed_file_that_is_cut_off_is_no_shorter_corpus(write, kind):
    pack = {"gzip": gzip, "zstandard": zstandard}[kind].compress
    lines = b"".join(b'{"text": "%d"}\n' % (i * 7919 % 100_003) for i in range(50_000))
    packed = pack(lines) + pack(lines)
    for cut in (len(packed) // 4, len(packed) * 3 // 4, len(packed) - 1):
        with pytest.raises(DataError, match=r"data\.bin"):
            read(write("data.bin", packed[:cut]), options=SKIP)
    assert len(read(write("data.bin", packed))) == 100_000
    broken = packed[:5000] + bytes(99) + packed[5099:]
    with pytest.raises(DataError, match="damaged"):
        read(write("data.bin", broken), options=SKIP)


def test_several_files_and_folders_in_order(write, tmp_path):
    write("folder/b.txt", "b")
    write("folder/a.jsonl", '{"text": "a"}')
    write("folder/deep/c.txt.gz", gzip.compress(b"c"))
    write("folder/README.md", "not corpus")
    write("folder/.hidden.txt", "not corpus")
    write("folder/.git/x.txt", "not corpus")
    write("folder/.microgpt-building-x/meta.json", "not corpus")
    assert read(write("z.txt", "z"), tmp_path / "folder") == ["z", "a", "b", "c"]
    assert read(tmp_path / "folder", options=ReadOptions(suffix="md")) == ["not corpus", "a", "b", "c"]


def test_progress_adds_up_to_the_stored_bytes(write):
    paths = [write("a.txt", "some words\n" * 50_000), write("b", gzip.compress(chat_line("a", "b").encode()))]
    seen = []
    read(*paths, progress=seen.append)
    assert sum(seen) == sum(path.stat().st_size for path in paths)


@pytest.fixture
def write_rows(tmp_path):
    """Write records as a parquet file of several row groups; its path."""

    def write(name, rows):
        parquet.write_table(Table.from_pylist(rows), tmp_path / name, row_group_size=300)
        return tmp_path / name

    return write


def test_parquet_rows_are_documents(write_rows):
    turns = [{"role": "user", "content": "hi é"}, {"role": "assistant", "content": "yes"}]
    rows = [{"prompt": "x", "prompt_id": str(i), "messages": turns[: 1 + i % 2]} for i in range(1000)]
    path = write_rows("x.parquet", rows)
    seen = []
    chat = [Message("user", "hi é"), Message("assistant", "yes")]
    assert read(path, progress=seen.append) == [chat[: 1 + i % 2] for i in range(1000)]
    assert sum(seen) == path.stat().st_size
    assert read(path.parent) == read(path)


def test_bad_parquet_rows_are_named(write_rows):
    path = write_rows("x.parquet", [{"text": "a"}, {"text": None}, {"text": "c"}])
    with pytest.raises(DataError, match=r"x\.parquet:2: "):
        read(path)
    skipped = Skipped()
    assert read(path, options=SKIP, skipped=skipped) == ["a", "c"]
    assert skipped.lines == 1


def test_a_message_with_an_image_is_no_text_in_any_format(write_rows, write):
    """Parquet gives every part all keys that any part has, some of them null."""
    parts = [{"type": "text", "text": "what is it? ", "image": None}, {"type": "text", "text": "say"}]
    image = {"type": "image", "text": None, "image": "a.png"}
    rows = [{"messages": [{"role": "user", "content": p}]} for p in (parts, [*parts, image], parts)]
    for path in (write_rows("x.parquet", rows), write("x.jsonl", "\n".join(map(json.dumps, rows)))):
        with pytest.raises(DataError, match=r":2: .*a part that has no text"):
            read(path)
        assert read(path, options=SKIP) == [[Message("user", "what is it? say")]] * 2


def test_a_parquet_row_that_is_not_utf8_is_one_bad_row(tmp_path):
    column = pyarrow.array([b"a", b"caf\xe9", b"c"]).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": column}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x\.parquet:2: not UTF-8 \(byte 0xe9\)"):
        read(tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet", options=SKIP) == ["a", "c"]


def test_a_parquet_row_over_the_limit_is_refused(write_rows, monkeypatch):
    path = write_rows("x.parquet", [{"text": "a" * 900}, {"text": "b" * 900}, {"text": "c" * 1100}])
    monkeypatch.setattr("microgpt.corpus.reading.parquet.MAX_LINE_BYTES", 1000)
    with pytest.raises(DataError, match=r"x\.parquet:3: row of over"):
        read(path)


def test_a_text_that_begins_like_parquet_is_text(write):
    assert read(write("x.txt", "PAR1 is how it begins\n")) == ["PAR1 is how it begins"]


def test_numbers_that_json_has_no_word_for_do_no_harm_where_they_are_not_used(write):
    items = '{"text": "a", "x": NaN}', '{"text": "b", "x": [1e999]}', '{"text": "c"}'
    assert read(write("x.jsonl", "\n".join(items))) == read(write("x.json", f"[{','.join(items)}]"))
    with pytest.raises(DataError, match=r"x:1: .*'text' must hold text, got a number"):
        read(write("x", '{"text": NaN}'))


def test_a_file_without_text_is_told_after_a_bad_line_in_another(write):
    paths, skipped = (write("a.jsonl", '{"text": "a"}\n{bad\n'), write("b.json", "[ ]")), Skipped()
    assert read(*paths, options=SKIP, skipped=skipped) == ["a"]
    assert (skipped.lines, skipped.files) == (1, 1)
    assert "b.json: no text found" in skipped.examples[1]


def test_a_damaged_parquet_file_is_one_clear_line(write_rows, write):
    data = write_rows("x.parquet", [{"text": str(i) * 50} for i in range(999)]).read_bytes()
    for broken in (data[:-9], data[: len(data) // 2], data[:30] + bytes(99) + data[129:]):
        with pytest.raises(DataError, match=r"cut\.parquet.*damaged") as caught:
            read(write("cut.parquet", broken))
        assert "\n" not in str(caught.value)


BAD_LINES = {
    "json": (chat_line("a", "b") + '{"messages": [\n' + chat_line("c", "d"), 2, "JSON"),
    "keys": (chat_line("a", "b") + '\n{"foo": 1}\n' + chat_line("c", "d"), 3, "foo"),
    "utf-8": (b'{"text": "a"}\n{"text": "caf\xe9"}\n{"text": "c"}\n', 2, "0xe9"),
    "deep": (chat_line("a", "b") + '{"text": ' + "[" * 200_000 + "\n" + chat_line("c", "d"), 2, "deep|JSON"),
    "dialogue": ("a __eou__\n b __eou__ __eou__ c\nd __eou__\n", 2, "turn 2 is empty"),
    "no turns": ("a __eou__\nplain\nd __eou__\n", 2, "no __eou__"),
    "text": (b"good\n\nb\xe4d\n\nfine\n", 3, "UTF-8"),
    "array": ('[{"text": "a"},\n{"texts": "b"},\n{"text": "c"}]', 2, "texts"),
}


@pytest.mark.parametrize("content, line, reason", BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_names_file_and_line(write, content, line, reason):
    with pytest.raises(DataError, match=rf"bad\.data:{line}: .*({reason})") as caught:
        read(write("bad.data", content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content, line, reason", BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_can_be_skipped_and_is_counted(write, content, line, reason):
    skipped = Skipped()
    assert len(read(write("bad.data", content), options=SKIP, skipped=skipped)) == 2
    assert skipped.lines == 1
    assert f":{line}: " in skipped.examples[0]


NO_TEXT = {
    "empty": (b"", "empty"),
    "blank": (b"\n \n\t", "blank"),
    "only a mark": (b"\xef\xbb\xbf", "blank"),
    "utf-16": ("hello".encode("utf-16"), "UTF-16"),
    "binary": (b"\x89PNG\r\n\0\0", "binary"),
    "empty array": (b"[ ]", "empty"),
}
BAD_FILES = {
    "parquet": (b"PAR1\x15\0", "parquet"),
    "packed parquet": (gzip.compress(b"PAR1\x15\0PAR1"), "unpack it first"),
    "cut gzip": (gzip.compress(b"hello " * 999)[:30], "damaged"),
    "bad gzip": (b"\x1f\x8b" + b"junk" * 9, "damaged"),
    "broken array": (b'[{"text": "a"},\n{"text": ', ":2: not valid JSON"),
    "array cut between records": (b'[{"text": "a"},\n{"text": "b"},', ":2: .*cut off"),
    "two arrays": (b'[{"text": "a"}]\n[{"text": "b"}]', ":2: .*cut off"),
    "bracket after objects": (b'{\n"text": "a"\n}\n]\n{\n"text": "b"}', ":4: .*cut off"),
}


@pytest.mark.parametrize("content, reason", BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_cannot_be_read_is_one_clear_line(write, content, reason):
    with pytest.raises(DataError, match=f"some.file.*{reason}") as caught:
        read(write("some.file", content), options=SKIP)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["page.parquet", "page.txt.gz", "page.ZST"])
@pytest.mark.parametrize("content", [b"<html>not found</html>", b"PAR1, (\xb5/", b"\x1f."])
def test_a_name_that_promises_packed_text_is_not_read_as_plain_text(write, name, content):
    with pytest.raises(DataError, match=f"{name}: named .*none"):
        read(write(name, content), options=SKIP)


@pytest.mark.parametrize("content, reason", NO_TEXT.values(), ids=NO_TEXT)
def test_a_file_without_text_is_one_clear_line_or_passed_over_and_counted(write, content, reason):
    write("x.txt", "a")
    folder, skipped = write("no text.txt", content).parent, Skipped()
    with pytest.raises(DataError, match=rf"no text\.txt: .*{reason}.*--bad-lines skip") as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    assert read(folder, options=SKIP, skipped=skipped) == ["a"]
    assert (skipped.lines, skipped.files) == (0, 1)
    assert "no text.txt: " in skipped.examples[0]


def test_a_broken_link_in_a_folder_is_passed_over_but_never_a_path_that_was_named(write, tmp_path):
    write("x.txt", "a")
    (tmp_path / "link.txt").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.txt")
    skipped = Skipped()
    assert read(tmp_path, options=SKIP, skipped=skipped) == ["a"]
    assert skipped.files == 2
    with pytest.raises(DataError, match=r"link\.txt: cannot read this corpus file \(No such file"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"link\.txt: cannot read this corpus file \(No such file"):
        read(tmp_path / "link.txt", options=SKIP)


@pytest.mark.parametrize("name", ["x.jsonl", "X.NDJSON", "x.jsonl.gz", "x.ndjson.zst"])
@pytest.mark.parametrize("first", [b"{broken", b"# a comment", b"a __eou__ b __eou__", b"caf\xe9"])
def test_a_name_says_jsonl_where_the_first_line_is_broken(write, name, first):
    data = first + b"\n" + chat_line("a", "b").encode()
    if name.endswith("gz"):
        data = gzip.compress(data)
    if name.endswith("zst"):
        data = zstandard.compress(data)
    path, skipped = write(name, data), Skipped()
    with pytest.raises(DataError, match=f"{name}:1: not"):
        read(path)
    assert read(path, options=SKIP, skipped=skipped) == read(write("good", chat_line("a", "b")))
    assert skipped.lines == 1


def test_a_name_says_json_too_but_no_name_hides_what_is_there(write):
    with pytest.raises(DataError, match=r"x\.json:1: not valid JSON"):
        read(write("x.json", "{'text': 'a'}\n"))
    assert read(write("y.json", '{"text": "a"}\n{"text": "b"}\n')) == ["a", "b"]
    assert read(write("x.jsonl", '[{"text": "a"}, {"text": "b"}]')) == ["a", "b"]
    assert read(write("x.txt", '{"text": "a"}')) == ["a"]


def test_missing_paths_and_empty_folders(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.txt"):
        read(tmp_path / "nowhere.txt")
    for name in ("x\0y", "x\ud800y"):
        with pytest.raises(DataError, match="no file can have this name"):
            read(name)
    with pytest.raises(DataError, match="too long"):
        read("name" * 99)
    with pytest.raises(DataError, match="no corpus file"):
        read(tmp_path)
    with pytest.raises(DataError, match="no corpus given"):
        read()


def test_a_folder_that_cannot_be_opened_is_not_passed_over(write, tmp_path, monkeypatch):
    import os

    write("here/x.txt", "text")
    write("here/closed/y.txt", "text")
    listed = os.scandir

    def scandir(path):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"closed: .*Permission denied"):
        read(tmp_path / "here")


def test_a_named_pipe_is_refused_at_once(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="regular file"):
        read(tmp_path / "pipe")


def test_options_are_checked():
    with pytest.raises(ConfigError, match="--keys: got 'a,b,c'; expected two"):
        ReadOptions(keys="a,b,c")
    with pytest.raises(ConfigError, match="ignore"):
        ReadOptions(bad_lines="ignore")


def test_a_line_over_the_limit_is_refused(write, monkeypatch):
    monkeypatch.setattr("microgpt.corpus.reading.files.MAX_LINE_BYTES", 1 << 20)
    with pytest.raises(DataError, match="x:2: line of over"):
        read(write("x", '{"text": "a"}\n{"text": "' + "b" * (1 << 20) + '"}\n'))


def test_options_that_are_not_used_leave_the_hash_of_a_corpus_as_it_was():
    before = (
        "ReadOptions(bad_lines='error', text_documents='paragraphs', senders={'human': 'user', "
        "'user': 'user', 'gpt': 'assistant', 'assistant': 'assistant', 'system': 'system'})"
    )
    assert repr(ReadOptions()) == repr(ReadOptions(suffix=".md")) == before
    assert repr(ReadOptions(keys="a")) != before


TURNS = st.lists(
    st.tuples(st.sampled_from(ROLES), st.text(st.characters(exclude_categories=["Cs"])).filter(str.strip)),
    min_size=1,
    max_size=5,
)


@given(chats=st.lists(TURNS, min_size=1, max_size=5))
@settings(max_examples=60)
def test_messages_read_the_same_in_every_format(write, write_rows, chats):
    rows = [{"messages": [{"role": role, "content": text} for role, text in chat]} for chat in chats]
    lines = "\n".join(map(json.dumps, rows))
    wanted = [[Message(*turn) for turn in chat] for chat in chats]
    assert read(write("x.jsonl", lines)) == wanted
    assert read(write("x", lines)) == wanted
    assert read(write("x.json", json.dumps(rows, ensure_ascii=False))) == wanted
    assert read(write("y.json", "\n".join(json.dumps(row, indent=1) for row in rows))) == wanted
    assert read(write("x.jsonl.gz", gzip.compress(lines.encode()))) == wanted
    assert read(write_rows("x.parquet", rows)) == wanted


LONG = "Many words , and more . " * 40
LARGE = {
    "text": (LONG + "\n\n") * 4000,
    "jsonl": chat_line(LONG, LONG) * 2000,
    "json": "[" + ",".join([json.dumps({"text": LONG})] * 4000) + "]",
    "dailydialog": (LONG + "__eou__" + LONG + "__eou__\n") * 2000,
    "table": "question,answer\n" + f'"{LONG}","{LONG}"\n' * 2000,
}


@pytest.mark.parametrize("kind", LARGE)
def test_memory_does_not_grow_with_the_file(write, kind):
    path = write("big.csv" if kind == "table" else "big", LARGE[kind])
    assert detect(path) == kind
    tracemalloc.start()
    assert sum(len(texts(document)) for document in read_documents(path)) == 4000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000 < 3_000_000 < path.stat().st_size
