"""What is prepared of a corpus: its two sides, what is left out, when it is done anew."""

import json
import os
import re
import sys
from functools import partial

import numpy as np
import pytest

from microgpt.batches.batches import Batches
from microgpt.common import bars
from microgpt.common.errors import DataError
from microgpt.corpus.chat import render
from microgpt.corpus.prepared import make as room
from microgpt.corpus.prepared.folder import Known
from microgpt.corpus.prepared.make import find_kept, is_known, prepare, prepare_held_out
from microgpt.corpus.prepared.split import HeldOutWanted, Split, place
from microgpt.corpus.reading.formats import read_documents
from microgpt.corpus.reading.options import ReadOptions
from microgpt.tokenizer import native
from tests.corpus.lines import chat_line


def decoded(tokens, tokenizer):
    """The documents of a token file as lists of ids."""
    return [part.tolist() for part in np.split(np.asarray(tokens.ids), tokens.offsets[1:].astype(int))]


def test_every_document_lands_on_its_side(chats):
    done = prepare(chats, merges=50)
    split = Split(**done.meta["split"])
    sides = [part for document in read_documents(chats) for part in split.sides(document, place(document))]
    for tokens, side in ((done.train, False), (done.val, True)):
        want = [render(document, done.tokenizer).tolist() for held_out, document in sides if held_out == side]
        assert decoded(tokens, done.tokenizer) == want
        assert tokens.n_documents == len(want)
        tokens.verify()


def test_an_unchanged_corpus_is_not_prepared_again(chats, write, monkeypatch):
    first = prepare(chats, merges=50)
    copy = write("another name", chats.read_bytes())
    monkeypatch.setattr(room, "train", lambda *args, **kw: pytest.fail("trained again"))
    assert prepare(copy, merges=50).directory == first.directory


@pytest.mark.parametrize("change", ["text", "merges", "options", "tokenizer", "order"])
def test_anything_that_matters_is_prepared_again(chats, write, change, tokenizer):
    more = write("more.txt", "more\n\nwords\n")
    first = prepare([chats, more], merges=50)
    how = {"merges": 51 if change == "merges" else 50}
    if change == "tokenizer":
        how["tokenizer"] = tokenizer
    if change == "options":
        how["options"] = ReadOptions(text_documents="file")
    if change == "text":
        more.write_text("more\n\nworts\n")
    again = prepare([more, chats] if change == "order" else [chats, more], **how)
    assert again.directory != first.directory


def test_a_given_tokenizer_is_used(chats, tokenizer):
    done = prepare(chats, tokenizer=tokenizer)
    assert done.tokenizer.sha256 == done.train.tokenizer_sha256 == tokenizer.sha256


def test_the_tokenizer_sees_only_the_training_side(write, monkeypatch):
    documents = [f"text number {i} " + "word " * 5 for i in range(60)]
    seen = []

    def spy(documents, **how):
        seen.append(list(documents))
        return real(seen[-1], **how)

    real = room.train
    monkeypatch.setattr(room, "train", spy)
    done = prepare(write("x.txt", "\n\n".join(documents)), merges=5)
    assert len(seen[-1]) == done.train.n_documents < 60


def test_two_preparations_are_the_same_bytes(chats, tmp_path):
    one, two = (prepare(chats, merges=50, root=tmp_path / name) for name in "ab")
    for name in os.listdir(one.directory):
        assert (one.directory / name).read_bytes() == (two.directory / name).read_bytes()


@pytest.mark.parametrize("text", ["word " * 400, "a line of text\n" * 50, "x" * 500, "a\n\nb"])
def test_a_text_file_of_any_form_can_be_trained_on(write, text):
    done = prepare(write("x.txt", text), merges=5)
    assert done.train.n_tokens > 2
    assert done.val.n_tokens > 2
    assert done.train.n_bytes + done.val.n_bytes >= len(text.strip()) - 2


def test_a_corpus_shorter_than_a_window_is_one_clear_line(write, tmp_path):
    """It names what was typed this time, not the place of our own where the tokens lie."""
    for name in ("x.txt", "same.txt"):
        done = prepare(write(name, "too short a text\n\nindeed"), merges=5)
        with pytest.raises(DataError, match=f"^the training part of .*/{name}: .* shorter than one window"):
            Batches(done.train, 64, 1, 0)
    mine = tmp_path / "mine"
    prepare(write("x.txt", "too short a text\n\nindeed"), merges=5, out_dir=mine)
    with pytest.raises(DataError, match=f"^the training part of {mine}: "):
        Batches(prepare(mine).train, 64, 1, 0)


def test_fewer_merges_than_are_wanted_are_told(chats, capsys):
    done = prepare(chats, merges=50_000, show_progress=True)
    told = f"microgpt: the tokenizer has {len(done.tokenizer.merges):,} merges, not 50,000: the text holds"
    assert told in capsys.readouterr().err
    prepare(chats, merges=50, show_progress=True)
    assert "merges, not" not in capsys.readouterr().err


def test_skipped_lines_are_told_each_time_they_are_missing(write, tokenizer, capsys):
    path = write("x.jsonl", chat_line("a", "b") * 40 + chat_line("c", "d") * 9 + "{bad\n")
    skip = ReadOptions(bad_lines="skip")
    for _ in range(2):  # made, then found
        prepare(path, merges=0, options=skip)
        prepare_held_out(path, tokenizer, options=skip)
        told = capsys.readouterr().err.splitlines()
        assert len(told) == 2
        assert all("1 bad line left out: " in line and "x.jsonl:50" in line for line in told)


def test_skipped_lines_are_counted_once(write):
    good = [chat_line(f"{i}", "b") for i in range(50)]
    path = write("x.jsonl", "".join([*good[:3], "{broken\n", *good[3:]]))
    with pytest.raises(DataError, match=r"x\.jsonl:4:"):
        prepare(path, merges=5)
    done = prepare(path, merges=5, options=ReadOptions(bad_lines="skip"))
    assert done.meta["skipped"]["lines"] == 1


def test_a_file_that_changes_under_our_hands_is_refused(chats, monkeypatch):
    real = room.render_packed

    def meddle(*args):
        os.utime(chats, ns=(1, 1))
        return real(*args)

    monkeypatch.setattr(room, "render_packed", meddle)
    with pytest.raises(DataError, match="changed while"):
        prepare(chats, merges=50)


def test_held_out_only(chats, tokenizer):
    tokens = prepare_held_out(chats, tokenizer)
    assert tokens.n_documents == 3000
    assert decoded(tokens, tokenizer)[:1] == [render(next(read_documents(chats)), tokenizer).tolist()]
    before, whole = tokens.path.stat().st_mtime_ns, tokens.path.read_bytes()
    assert prepare_held_out(chats, tokenizer).path.stat().st_mtime_ns == before
    tokens.path.write_bytes(whole[:99])
    assert prepare_held_out(chats, tokenizer).path.read_bytes() == whole


def test_smalltalk_brings_its_own_held_out_part(write, tokenizer):
    from microgpt.corpus.smalltalk import generate

    done = prepare("smalltalk", tokenizer=tokenizer, smalltalk_bytes=200_000)
    train = [render(d, tokenizer).tolist() for d in generate(200_000)]
    held_out = [render(d, tokenizer).tolist() for d in generate(2_000, held_out=True)]
    assert decoded(done.train, tokenizer) == train
    assert decoded(done.val, tokenizer) == held_out
    alone = prepare_held_out("smalltalk", tokenizer, smalltalk_bytes=200_000)
    assert decoded(alone, tokenizer) == held_out
    both = prepare(["smalltalk", write("x.txt", "a\n\nb\n\nc")], tokenizer=tokenizer, smalltalk_bytes=200_000)
    assert both.train.n_documents == done.train.n_documents + 2


def test_who_brings_the_tokenizer_that_was_trained_on_this_text_finds_it_prepared(chats, monkeypatch):
    first, other = prepare(chats, merges=50), prepare(chats, merges=51).tokenizer
    skip = ReadOptions(bad_lines="skip")
    for changed in ({"tokenizer": other, "options": skip}, {"tokenizer": first.tokenizer, "options": skip}):
        assert prepare(chats, **changed).directory != first.directory
    monkeypatch.setattr(room, "_write", lambda *args: pytest.fail("prepared again"))
    again = prepare(chats, tokenizer=first.tokenizer)
    known = Known(again.meta["key"], first.tokenizer)
    assert known.key != first.meta["key"], "the same whether the other one is kept or not"
    kept = prepare(chats, known=known)
    assert (kept.directory, kept.meta["key"]) == (again.directory, known.key)
    assert again.directory == first.directory


def test_progress_shows_on_stderr_only_when_it_takes_long(chats, capfd, monkeypatch):
    prepare(chats, merges=50)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(bars, "QUIET_S", 0.0)
    prepare(chats, merges=51)
    assert capfd.readouterr() == ("", ""), "a log is no place for a bar"
    monkeypatch.setattr(room, "LARGE_BYTES", chats.stat().st_size)
    prepare(chats, merges=54)
    assert capfd.readouterr() == ("", f"microgpt: preparing 0 MB of {chats} ...\n")
    monkeypatch.setattr(room, "LARGE_BYTES", 1 << 30)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    prepare(chats, merges=52)
    out, err = capfd.readouterr()
    assert out == ""
    assert "encoding" in err
    assert err.index("counting words") < err.index("merging"), "its clock starts with the first merge"
    prepare(chats, merges=53, show_progress=False)
    assert capfd.readouterr() == ("", "")


def test_sources_may_come_one_by_one(chats, write, tokenizer):
    paths = [chats, write("more.txt", "more\n\nwords\n")]
    assert prepare(iter(paths), merges=5).directory == prepare(paths, merges=5).directory
    assert prepare_held_out(iter(paths), tokenizer).path == prepare_held_out(paths, tokenizer).path


def test_a_file_that_is_named_twice_is_read_once(write, tmp_path, tokenizer, capsys):
    path = write("in/a.txt", "ab ab\n\nab")
    (tmp_path / "link.txt").symlink_to(path)
    twice = [path.parent, path, tmp_path / "link.txt"]
    assert prepare_held_out(twice, tokenizer).n_documents == 2
    assert capsys.readouterr().err == f"microgpt: named twice, read once: {path} and 1 more\n"
    assert prepare(twice[:2], merges=2).meta["files_read"] == 1
    assert capsys.readouterr().err == f"microgpt: named twice, read once: {path}\n"


def test_files_of_a_folder_that_are_no_text_by_their_names_are_told(write, tokenizer, capsys):
    folder = write("in/a.txt", "ab ab\n\nab").parent
    for name in ("in/deep/c.py", "in/b.md", "in/.hidden"):
        write(name, "not read")
    prepare_held_out([folder], tokenizer)
    told = f"microgpt: no text by its name, left out of a folder: {folder}/b.md and 1 more\n"
    hint = "microgpt: --suffix takes such files, too; their ends: .md .py\n"
    assert capsys.readouterr().err == told + hint
    prepare_held_out([folder], tokenizer, options=ReadOptions(suffix="md,.py"))
    assert capsys.readouterr().err == ""
    prepare_held_out([folder / "a.txt", folder / "b.md"], tokenizer)
    assert capsys.readouterr().err == ""


def test_skipped_lines_are_told_of_a_prepared_folder_too(write, tmp_path, capsys):
    path = write("x.jsonl", chat_line("a", "b") * 40 + chat_line("c", "d") * 9 + "{bad\n")
    made = prepare(path, merges=5, options=ReadOptions(bad_lines="skip"), out_dir=tmp_path / "mine")
    capsys.readouterr()
    prepare(tmp_path / "mine")
    prepare_held_out(tmp_path / "mine", made.tokenizer)
    assert capsys.readouterr().err.count("1 bad line left out: ") == 2


def test_what_is_left_out_is_counted_as_it_is_now(write, tmp_path, capsys):
    """The files of a folder may change where its texts do not."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]
    chats = chat_line("a", "b") * 9 + chat_line("c", "d") + json.dumps({"messages": turns})
    folder = write("in/a.jsonl", chats).parent
    first = prepare(folder, merges=2)
    assert first.meta["left_out"] == {} and first.meta["skipped"]["parts"] == {"empty messages": 1}
    write("in/b.md", "not read")
    again = prepare(folder, merges=2)
    assert again.directory == first.directory and again.meta["left_out"] == {"no text by its name": 1}
    assert capsys.readouterr().err.count("microgpt: left out: empty messages: 1\n") == 2


def test_what_an_earlier_version_read_is_read_anew_under_the_same_hash(write, capsys):
    first = prepare(write("x.txt", "a word\n\nb word\n\nc word"), merges=2)
    path = first.directory / "meta.json"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps({key: meta[key] for key in meta if key not in ("reading", "left_out")}))
    assert prepare(first.directory).meta["key"] == first.meta["key"], "what is prepared stays in use"
    again = prepare(write("x.txt", "a word\n\nb word\n\nc word"), merges=2)
    assert again.meta == first.meta
    told = "another version read the corpus that was prepared there; it is replaced"
    assert told in capsys.readouterr().err


def test_a_corpus_named_by_the_current_folder_stays_what_it_was(write, tmp_path, monkeypatch):
    folder = write("in/a.txt", "a word\n\nb word\n\nc word").parent
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MICROGPT_DATA_DIR", "data")
    first = prepare(".", merges=2)
    first.tokenizer.save(folder / "tokenizer.json")
    again = prepare(".", merges=2)
    assert again.meta["key"] == first.meta["key"]
    assert again.meta["left_out"] == {"made by microgpt": 5}


def test_a_chunk_fits_the_room_that_an_encoder_keeps():
    """Fresh room for every chunk would cost more time than the encoder."""
    assert room._CHUNK_CHARACTERS < native.Workspace.KEPT_IDS / 1.5


def test_files_without_text_are_passed_over_and_counted(chats, write, tmp_path, capsys):
    folder = tmp_path / "folder"
    for name, text in {"a": "a word\n\nb word\n\nc word", "b": "", "c": " \n", "d": "d"}.items():
        write(f"folder/{name}.txt", text)
    skip = ReadOptions(bad_lines="skip")
    with pytest.raises(DataError, match=r"b\.txt: this corpus file is empty.*--bad-lines skip"):
        prepare(folder, merges=2)
    made = prepare(folder, merges=2, options=skip)
    assert (made.meta["files_read"], made.meta["skipped"]["files"]) == (2, 2)
    assert "microgpt: 2 files left out: " in capsys.readouterr().err
    (folder / "b.txt").unlink()
    again = prepare(folder, merges=2, options=skip)
    assert again.meta["skipped"]["files"] == 1, "not what another folder lacked"
    with pytest.raises(DataError, match=r"every file was passed over; the first: .*e\.txt"):
        prepare(write("e.txt", ""), options=skip)


def test_a_name_that_decides_is_part_of_what_a_corpus_is(write):
    """The same bytes are text under one name, chats with a bad line under another."""
    content = "{broken\n" + chat_line("a", "b") * 40 + chat_line("c", "d")
    text = prepare(write("x.txt", content), merges=2)
    with pytest.raises(DataError, match=r"x\.jsonl:1: "):
        prepare(write("x.jsonl", content), merges=2)
    assert text.meta["skipped"]["lines"] == 0


def test_a_name_that_is_no_utf8_is_a_name(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    with open(path, "w") as file:
        file.write("one\n\ntwo\n\nthree")
    made = prepare(os.fsdecode(path), merges=2)
    assert made.meta["sources"] == [os.fsdecode(path)]


def test_an_empty_path_is_not_the_current_folder(write, tmp_path, monkeypatch, tokenizer):
    write("x.txt", "a\n\nb")
    monkeypatch.chdir(tmp_path)
    for use in (prepare, lambda names: prepare_held_out(names, tokenizer)):
        for names in ("", ["x.txt", ""]):
            with pytest.raises(DataError, match="an empty path"):
                use(names)


# ---- what is held out by choice ----


def documents_of(tokens, tokenizer):
    """The texts of a token file, markers included."""
    return [tokenizer.decode(ids).decode() for ids in decoded(tokens, tokenizer)]


def test_files_that_are_held_out_are_all_of_the_held_out_part(write, tmp_path, capsys):
    held = write("in/held.txt", "one held\n\ntwo held\n\nthree held")
    write("in/rest.txt", "\n\n".join([*(f"text {i}" for i in range(50)), "two held"]))
    done = prepare(tmp_path / "in", merges=5, wanted=HeldOutWanted((str(held),)))
    train, val = (documents_of(tokens, done.tokenizer) for tokens in (done.train, done.val))
    assert [len(train), len(val)] == [50, 3], "the file is in the folder, and a copy of a document beside it"
    assert not set(train) & set(val) and all("held" in text for text in val)
    assert "1 document not trained on" in capsys.readouterr().err
    assert done.meta["held_out_copies"] == 1 and done.meta["files_read"] == 2


def test_held_out_files_are_known_by_content_and_part_of_the_key(write):
    data, held = write("a.txt", "\n\n".join(f"text {i}" for i in range(50))), write("b.txt", "b\n\nc")
    first = prepare(data, merges=5, wanted=HeldOutWanted((str(held),)))
    moved = write("moved/b", held.read_bytes())
    assert prepare(data, merges=5, wanted=HeldOutWanted((str(moved),))).directory == first.directory
    moved.write_text("b\n\nd")
    others = [HeldOutWanted((str(moved),)), HeldOutWanted(held_out_share=0.5), HeldOutWanted(), None]
    keys = [prepare(data, merges=5, wanted=wanted).meta["key"] for wanted in others]
    assert len({first.meta["key"], *keys}) == 4, "to want nothing is the default"


def test_smalltalk_beside_held_out_files_has_no_part_of_its_own(write, tokenizer):
    alone = prepare("smalltalk", tokenizer=tokenizer, smalltalk_bytes=50_000)
    held = write("b.txt", "b\n\nc")
    how = {"tokenizer": tokenizer, "smalltalk_bytes": 50_000}
    done = prepare("smalltalk", wanted=HeldOutWanted((str(held),)), **how)
    assert (done.train.n_documents, done.val.n_documents) == (alone.train.n_documents, 2)
    more = prepare("smalltalk", wanted=HeldOutWanted(held_out_share=0.1), **how)
    assert more.val.n_documents > 5 * alone.val.n_documents
    other = prepare(held, wanted=HeldOutWanted(("smalltalk",)), **how)
    assert (other.train.n_documents, other.val.n_documents) == (2, alone.val.n_documents)


def test_nothing_left_to_train_on_is_one_clear_line(write):
    data = write("a.txt", "b\n\nc")
    for held in (data, write("copy", "b\n\nc\n\nd")):
        with pytest.raises(DataError, match=r"--held-out.*nothing to train on"):
            prepare(data, merges=5, wanted=HeldOutWanted((str(held),)))


# ---- a corpus that is known by its content ----


@pytest.mark.parametrize("way", ["merges", "fewer merges", "tokenizer"])
def test_a_corpus_is_known_again_however_it_got_its_tokenizer(chats, write, tmp_path, tokenizer, way):
    how = {"tokenizer": tokenizer} if way == "tokenizer" else {"merges": 50}
    before = prepare(chats, root=tmp_path / "one", **how)
    known = Known(before.meta["key"], before.tokenizer)
    moved = write("moved/elsewhere", chats.read_bytes())
    merges = 9 if way == "fewer merges" else 50
    again = prepare(moved, merges=merges, known=known, root=tmp_path / "two")
    for side, tokens in again.sides.items():
        assert tokens.path.read_bytes() == before.sides[side].path.read_bytes()
    assert again.meta["key"] == before.meta["key"] and is_known(moved, known, merges=merges)
    moved.write_bytes(chats.read_bytes() + chat_line("a", "b").encode())
    assert prepare(moved, merges=merges, known=known).meta["key"] != before.meta["key"]
    assert not is_known(moved, known, merges=merges)


def test_what_a_run_has_of_an_earlier_version_stays_as_it_is(chats, monkeypatch):
    how = {"merges": 50, "wanted": HeldOutWanted(held_out_share=0.5)}
    with monkeypatch.context() as then:
        then.setattr(room, "_key", partial(room._key, form=room.EARLIER))
        before = prepare(chats, **how)
    known = Known(before.meta["key"], before.tokenizer)
    assert prepare(chats, known=known, **how).meta == before.meta and is_known(chats, known, **how)
    anew = prepare(chats, **how)
    assert anew.meta["key"] != before.meta["key"] == prepare(chats, known=known, **how).meta["key"]
    for path in before.directory.iterdir():
        path.unlink()
    assert prepare(chats, known=known, **how).meta["key"] == anew.meta["key"]


def test_what_is_kept_is_found_by_its_key_when_the_sources_are_gone(chats):
    before = prepare(chats, merges=50)
    chats.unlink()
    assert find_kept(before.meta["key"]).meta == before.meta
    assert find_kept("0" * 64) is None


def test_digits_stay_single_where_that_is_wanted_and_are_known_again(write):
    path = write("sums.txt", "".join(f"1999 and {i} are {1999 + i}\n\n" for i in range(999)))
    merged, single = (prepare(path, merges=4, single_digits=wanted) for wanted in (False, True))
    assert merged.meta["key"] != single.meta["key"] and merged.train.n_tokens < single.train.n_tokens
    digits = {*b"0123456789"}
    assert any(len(word) > 1 and digits & {*word} for word in merged.tokenizer.token_bytes)
    assert not any(len(word) > 1 and digits & {*word} for word in single.tokenizer.token_bytes)
    for made in (merged, single):
        known = Known(made.meta["key"], made.tokenizer)
        assert prepare(path, merges=9, known=known).meta["key"] == made.meta["key"]
        assert is_known(path, known)


@pytest.mark.parametrize("n, advice", [(3, "--held-out FILE "), (400, "--held-out-share 0.05 ")])
def test_a_part_of_which_more_is_held_out_than_of_another_is_told(write, n, advice):
    """By what is really held out, with advice that can be followed."""
    file = write("mine.txt", "\n\n".join(f"Paragraph {i} is of hats. " * (3 + i % 5) for i in range(n)))
    both, how = ["smalltalk", file], {"merges": 20, "smalltalk_bytes": 60_000}
    alone = prepare(file, **how)
    share = alone.val.n_bytes / (alone.val.n_bytes + alone.train.n_bytes)
    told = prepare(both, **how).share_note
    of_smalltalk, of_files = map(float, re.findall(r"([\d.]+)% of", told))
    assert of_smalltalk == pytest.approx(1, abs=0.5) and of_files == pytest.approx(100 * share, abs=0.6)
    assert "held-out results count the files more than training does; " + advice in told
    alike = [prepare("smalltalk", **how)]
    if "share" in advice:
        alike.append(prepare(both, wanted=HeldOutWanted(held_out_share=0.05), **how))
    assert [one.share_note for one in alike] == [None] * len(alike)
