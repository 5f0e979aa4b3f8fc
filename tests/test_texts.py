"""Texts as samples: files, cutting, padding, packing. With a tokenizer and a model: test_hugging_face.py."""

import json
import sys

import pytest

from lossatlas.commands import plot_surface
from lossatlas.commands.job_choices import grid_task
from lossatlas.data.transformers_library import model_folder, transformers_library
from lossatlas.datasets.texts import (
    TextSettings,
    check_vocabulary,
    load_texts,
    packed_samples,
    padded_samples,
    read_texts,
)
from lossatlas.errors import BadInput, BadUsage, Note, option_names
from lossatlas.jobs.inputs.file_names import base_name, checkpoint_name
from lossatlas.user_code import UserFunction, function_record


def written(folder, name, content):
    file = folder / name
    file.write_text(content, encoding="utf-8")
    return file


def test_a_text_is_a_paragraph_a_line_or_an_object(tmp_path):
    plain = written(tmp_path, "a.txt", "\n one\ntwo \n\n  \nthree\n")
    assert read_texts(plain) == [" one\ntwo ", "three"]
    assert read_texts(plain, by="line") == [" one", "two ", "three"]
    lines = [{"text": "é\u2028b\n", "id": 1}, {"text": "", "other": "z"}]
    objects = written(tmp_path, "a.jsonl", "".join(json.dumps(each, ensure_ascii=False) + "\n\n" for each in lines))
    assert read_texts(objects) == ["é\u2028b\n", ""]
    assert read_texts(written(tmp_path, "b.jsonl", '{"other": ["z"]}'), "other") == [["z"]]


def test_what_is_no_text_is_named_by_its_line(tmp_path):
    file = written(tmp_path, "a.jsonl", '{"text": "a"}\n\n{"text": 3}\n')
    with pytest.raises(BadInput, match=r"a\.jsonl, line 3: 'text' is int, not a str \(conversations need chat=True\)"):
        load_texts(str(file), "no folder")
    assert read_texts(file) == ["a", 3]
    with pytest.raises(BadInput, match=r"^text 2 of 2 is int, not a str"):
        TextSettings().encoded(["a", 3], None)


def test_an_adapter_in_the_place_of_a_model_is_told(tmp_path):
    written(tmp_path, "adapter_config.json", "{}")
    with (
        option_names(),
        pytest.raises(BadInput, match=f"holds an adapter, .* give the adapter as --model_file2 {tmp_path}"),
    ):
        model_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", " \n\n", "holds no text"),
        ("a.jsonl", '{"text": "a"}\n{"text": ', "line 2: no JSON"),
        ("a.jsonl", '{"body": "a"}', "line 1: no key 'text': it has body"),
        ("a.jsonl", '["a"]', "it is no object"),
        ("a.csv", "a", "from .jsonl and .txt files"),
        ("there/a.txt", None, "cannot be read as text: No such file"),
    ],
    ids=["empty", "damaged", "key", "list", "ending", "missing"],
)
def test_what_is_no_file_of_texts_is_refused(tmp_path, name, content, message):
    file = tmp_path / name if content is None else written(tmp_path, name, content)
    with pytest.raises((BadInput, BadUsage), match=message):
        read_texts(file)


def test_other_encodings_and_words_are_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(BadInput, match="it is not UTF-8"):
        read_texts(tmp_path / "a.txt")
    with pytest.raises(BadUsage, match="by=word"):
        read_texts(tmp_path / "a.txt", by="word")


def test_one_text_is_one_sample_cut_and_padded():
    samples, line = padded_samples([[5, 6, 7], [8], [1, 2, 3, 4, 5, 6], [9, 10]], 4, 50)
    assert samples["input_ids"].tolist() == [[5, 6, 7, 50], [1, 2, 3, 4], [9, 10, 50, 50]]
    assert samples["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0]]
    assert line == (
        "samples: 3 of up to 4 tokens, 9 tokens in all; cut at 4: 1, which loses 2 tokens; padded: 2; "
        "left out with fewer than 2 tokens: 1"
    )
    whole, line = padded_samples([[0, 1], [2, 3]], 4, None)
    assert set(whole) == {"input_ids"}
    assert line == "samples: 2 of up to 2 tokens, 4 tokens in all"
    with pytest.raises(BadInput, match="no text has two tokens"):
        padded_samples([[1], []], 4, None)


def test_packed_texts_end_in_a_token(tmp_path):
    samples, line = packed_samples([[5, 6, 7], [], [8, 2], [9]], 4, 2, tmp_path)
    assert samples["input_ids"].tolist() == [[5, 6, 7, 2], [2, 8, 2, 9]]
    assert set(samples) == {"input_ids"}
    assert line == (
        "samples: 2 of up to 4 tokens, 8 tokens in all; packed texts: 4, with the token 2 behind each; "
        "left out at the end: 1 tokens"
    )
    assert packed_samples([[5], [6]], 2048, 2, tmp_path)[0]["input_ids"].tolist() == [[5, 2, 6, 2]]
    with pytest.raises(BadInput, match="no end-of-text token"):
        packed_samples([[5]], 3, None, tmp_path)


class Config:
    max_position_embeddings, vocab_size = 12, 20


class Words:
    model_max_length = int(1e30)


def test_the_length_is_that_of_the_model_and_at_most_2048(tmp_path):
    assert TextSettings().length_for(Config, Words) == 12
    assert TextSettings().length_for(object, Words) == 2048
    assert TextSettings(length=7).length_for(Config, Words) == 7
    with pytest.warns(Note, match="13 tokens are longer than the 12 positions"):
        assert TextSettings(length=13).length_for(Config, Words) == 13
    for wrong in (1, -3, "many"):
        with pytest.raises(BadUsage, match="at least 2 tokens"):
            TextSettings(length=wrong).length_for(Config, Words)
    with pytest.raises(BadInput, match="gives the token 20, the model there has 20"):
        check_vocabulary([[1], [20], []], Config, tmp_path)


def test_texts_are_texts():
    with pytest.raises(BadInput, match="text 2 of 2 is list, not a str"):
        TextSettings().encoded(["a", [1]], None)
    with pytest.raises(BadInput, match="there are no texts"):
        TextSettings().encoded([], None)


def test_a_missing_library_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    message = r"transformers, which is missing: install it with pip install 'lossatlas\[language\]'$"
    with pytest.raises(BadInput, match=message), transformers_library():
        pass


# Short forms ------------------------------------------------------------------------------------------------------


def task(line):
    return grid_task(plot_surface.parser().parse_args([*line.split(), "--x=-1:1:3"]), ["plot_surface"])


def test_short_forms_are_functions_of_this_package():
    found = task("--model hf:/nets/tiny/ --model_args dtype=float32 --dataset text:a/b.jsonl --dataset_args length=8")
    model, data = found.networks.model, found.data.dataset
    assert (model.where, model.name) == ("lossatlas.models.hugging_face", "load_model")
    assert model.arguments == {"folder": "/nets/tiny/", "dtype": "float32"}
    assert str(model) == "hf:tiny(dtype='float32')"
    assert data.arguments == {"tokenizer": "/nets/tiny/", "file": "a/b.jsonl", "length": 8}
    assert str(data) == "text:b.jsonl(length=8)"
    assert found.loss == "next_token"
    assert base_name(model, "") == "/nets/tiny"
    assert checkpoint_name(model, "") == "/nets/tiny_dtype=float32"
    assert checkpoint_name(model, "other/") == "other"
    assert checkpoint_name(UserFunction.parse("model", "own.py:make"), "") == "own_make"
    assert checkpoint_name(UserFunction.parse("model", "own.py:make", ["kind='a/b'"]), "") == "own_make_kind=a_b"
    assert function_record("model", model) == {"model": "hf:tiny(dtype='float32')", "model_code": ""}


def test_what_the_user_names_comes_first():
    found = task("--model hf:tiny --loss_name mse --dataset text:a.txt --dataset_args tokenizer=other")
    assert found.data.dataset.arguments["tokenizer"] == "other"
    assert found.loss == "mse"
    assert found.networks.file == ""
    assert task("--model hf:tiny --model_file other").networks.file == "other"


def test_each_short_form_belongs_to_its_option():
    assert UserFunction.parse("model", "text:f").where == "text"
    assert UserFunction.parse("dataset", "hf:f").where == "hf"
    with pytest.raises(BadUsage, match="name the folder, as in hf:FOLDER"):
        UserFunction.parse("model", "hf:")


@pytest.mark.parametrize(
    ("dataset", "text", "value"),
    [
        ("text:a.txt", "packed=false", False),
        ("text:a.txt", "packed=no", False),
        ("text:a.txt", "chat=0", False),
        ("text:a.txt", "chat=YES", True),
        ("text:a.txt", "packed=True", True),
        ("text:a.txt", "length=64", 64),
        ("text:a.txt", "field=2", "2"),
        ("text:a.txt", "test=2020", "2020"),
        ("choices:a.jsonl", "delimiter=' '", " "),
        ("choices:a.jsonl", "delimiter=", ""),
        ("choices:a.jsonl", "length=8", 8),
    ],
)
def test_arguments_are_read_by_the_types_of_their_parameters(dataset, text, value):
    found = UserFunction.parse("dataset", dataset, [text]).arguments[text.partition("=")[0]]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("packed=maybe", "'maybe' is neither true nor false"),
        ("chat=2", "'2' is neither true nor false"),
        ("length=abc", "'abc' is no whole number"),
        ("length=1.5", "'1.5' is no whole number"),
    ],
)
def test_arguments_of_another_type_are_refused_in_one_line(text, message, capsys):
    assert plot_surface.main(f"--model hf:tiny --dataset text:a.txt --dataset_args {text} --x=-1:1:3".split()) == 2
    assert f"error: --dataset_args {text}: {message}" in capsys.readouterr().err


def test_an_argument_that_is_none_is_named_without_quotes_in_quotes(capsys):
    found = UserFunction.parse("dataset", "text:a (1).txt", ["feild=body"])
    with option_names(), pytest.raises(BadUsage) as error:
        found()
    assert str(error.value).startswith(
        "--dataset_args feild=body: text:a (1).txt takes no 'feild' (did you mean field?); it takes by, chat, field"
    )


def test_texts_need_a_tokenizer_and_a_file_for_each_split():
    with pytest.raises(BadUsage, match=r"text:a.txt needs a tokenizer: give the model as hf:FOLDER"):
        load_texts("a.txt")
    with pytest.raises(BadInput, match="name the test texts by the argument test=FILE"):
        load_texts("a.txt", "folder", split="test")
