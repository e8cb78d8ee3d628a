from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace

import pytest

from supernet.encoder import Encoder
from supernet.heads import HeadKind
from supernet.model_card import ModelCard, render_card
from supernet.stock_form import stock_architecture
from supernet.variants import GraphVariant, Precision

Make = Callable[..., Encoder]


def render(
    encoder: Encoder,
    card: ModelCard | None = None,
    *,
    variant: GraphVariant = "plain",
    precision: Precision = "fp32",
    files: tuple[str, ...] = ("tokenizer.json",),
) -> str:
    return render_card(
        card or ModelCard(),
        encoder,
        stock=stock_architecture(encoder.architecture),
        variant=variant,
        precision=precision,
        tokenizer_files=dict.fromkeys(files, b"{}"),
        lowercase=False,
    )


def test_a_card_claims_nothing_that_it_was_not_told(random_encoder: Make) -> None:
    text = render(random_encoder("2-36-50-3-24"))
    assert text.startswith("---\nlibrary_name: transformers\n")
    assert "not verified yet" in text
    for word in ("license", "Teacher", "budget", "Device", "None"):
        assert word not in text


def test_a_card_says_what_it_was_told(random_encoder: Make) -> None:
    card = ModelCard(
        teacher="MiniLM",
        budget="p50 at most 10 ms",
        device="AMD EPYC",
        verification="p50 9.1 ms, at most 9.4 ms",
        license="apache-2.0",
        facts=[("a | b", "two\nlines")],
    )
    text = render(random_encoder("2-36-50-3-24"), card)
    assert 'license: "apache-2.0"\n' in text.split("---")[1]
    assert "| `2-36-50-3-24` (layers" in text
    assert "| Teacher | MiniLM |\n| Latency budget | p50 at most 10 ms |" in text
    assert "| a \\| b | two lines |\n| Verification | p50 9.1 ms, at most 9.4 ms |" in text
    assert "not verified" not in text


def test_a_licence_cannot_break_out_of_the_front_matter(random_encoder: Make) -> None:
    text = render(random_encoder("1-36-8-3-24"), ModelCard(license='x"\n---\nmodel: evil'))
    assert 'license: "x\\"\\n---\\nmodel: evil"\n' in text


@pytest.mark.parametrize(
    ("kind", "title", "pipeline", "form"),
    [
        ("classification", "BERT classifier", "text-classification", "SequenceClassification"),
        ("regression", "BERT regression", "text-classification", "SequenceClassification"),
        ("span", "BERT question answering", "question-answering", "QuestionAnswering"),
    ],
)
def test_a_card_says_what_its_head_answers(
    random_encoder: Make, kind: HeadKind, title: str, pipeline: str, form: str
) -> None:
    encoder = random_encoder("2-36-50-3-24", head=kind)
    assert encoder.head is not None
    text = render(encoder)
    assert f"pipeline_tag: {pipeline}\n" in text.split("---")[1]
    assert f"# {title} 2-36-50-3-24" in text
    assert f"| Labels, in the order of the logits | `{encoder.head.labels[0]}`" in text
    assert f"is a stock `BertFor{form}`: its attention is padded" in text
    assert f"import AutoModelFor{form}, AutoTokenizer" in text
    assert "last_hidden_state" not in text
    assert "neither a pooler nor a head" not in text
    rounded = render(encoder, precision="int8")
    assert "The head is float32." in rounded
    custom = render(random_encoder("2-36-50-3-51", head=kind))
    assert custom.count("trust_remote_code=True") == 2
    assert "It has the same head as `model.onnx`." in custom


def test_a_label_cannot_break_a_table_or_the_code(random_encoder: Make) -> None:
    encoder = random_encoder("2-36-50-3-24", head="classification")
    assert encoder.head is not None
    labels = ("a | b", 'say "no"\n', "```")
    text = render(replace(encoder, head=replace(encoder.head, labels=labels)))
    assert "`a \\| b`" in text
    line = next(line for line in text.splitlines() if line.startswith("labels = ["))
    assert ast.literal_eval(line.removeprefix("labels = ")) == list(labels)


def test_the_form_decides_how_the_card_loads_it(random_encoder: Make) -> None:
    padded = render(random_encoder("2-36-50-3-24"))
    assert "padded with zeros to 3 heads of 12 dimensions (in truth 3 of 8)" in padded
    stock = render(random_encoder("2-36-50-3-36"))
    assert "is a stock `BertModel`." in stock
    assert "padded" not in stock
    for text in (padded, stock):
        assert "trust_remote_code" not in text
        assert "add_pooling_layer=False" in text
    custom = render(random_encoder("2-36-50-3-51"))
    assert custom.count("trust_remote_code=True") == 2
    assert "No stock `BertModel` can hold 3 heads of 17 dimensions at hidden size 36" in custom


@pytest.mark.parametrize("variant", ["plain", "attention"])
def test_the_card_names_what_the_graph_needs(random_encoder: Make, variant: GraphVariant) -> None:
    text = render(random_encoder("2-36-50-3-24"), variant=variant)
    assert ("com.microsoft.Attention" in text) == (variant == "attention")


def test_the_card_says_how_the_file_was_made_from_the_float32_weights(random_encoder: Make) -> None:
    encoder = random_encoder("2-36-50-3-24")
    quantised = render(encoder, precision="int8")
    assert "| `plain`, int8 (`model.safetensors` is float32) |" in quantised
    assert "one scale for each output channel" in quantised
    assert "com.microsoft.MatMulIntegerToFloat" in quantised
    assert "| `plain`, float32 |" in render(encoder)
    assert "8 bits" not in render(encoder)
    assert "rounded to half precision: for GPUs" in render(encoder, precision="fp16")


def test_a_vocabulary_alone_is_read_as_the_tokenizer_was(random_encoder: Make) -> None:
    text = render(random_encoder("2-36-50-3-24"), files=("vocab.txt",))
    assert 'BertWordPieceTokenizer(f"{folder}/vocab.txt", lowercase=False)' in text


def test_facts_of_an_encoder_become_rows_unless_they_are_nested() -> None:
    card = ModelCard.from_facts(
        {"teacher": "MiniLM", "training_steps": 7, "search": {"seed": 1}, "note": None}
    )
    assert card.teacher == "MiniLM"
    assert card.license is None
    assert list(card.facts) == [("training steps", "7")]
