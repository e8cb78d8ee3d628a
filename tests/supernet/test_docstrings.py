from __future__ import annotations

from inspect import cleandoc

import pytest

from supernet.docstrings import prose_sentences

NUMPYDOC = """
    Compute the mean along an axis.

    The mean is `sum(x) / n`. It is taken over *all* elements by default, e.g. over
    the flattened array [1]_, see :func:`numpy.average` for :ref:`weights <weights>`.

    .. math:: m = \\sum_i x_i

    Parameters
    ----------
    x : array_like, shape (n,)
        The values to average.
    axis : {int, None}, optional
        Axis along which the mean
        is computed

    Returns
    -------
    mean : float
        The mean of the values.

    See Also
    --------
    average : A weighted mean of the values.

    Notes
    -----
    .. versionadded:: 1.2 The axis may be a tuple.

    ===== =====================
    name  meaning of the name
    ===== =====================

    References
    ----------
    .. [1] A. Author, "The theory of the mean", in the
       Journal of the Means.

    Examples
    --------
    >>> mean([1, 2])
    the output of an example is no prose

    The next example is prose::

        and = this.is.code

    After the code there is prose.
    """

GOOGLE = """Loads the model from a folder.

    Args:
        path (`str`, *optional*, defaults to `None`):
            The folder with the files of the model.
        strict: Whether to refuse a file that is unknown,
            or to pass over it.

    Returns:
        dict: The weights of the model by name.

    ```python
    this is the code of an example
    ```

    <Tip>

    - **fast** -- A list of what is fast.
    - The second item of the list.
    """

SPHINX = """
    :param path: The path to the file
    :type path: str or a path of the library
    :returns: whether the file is there
    @param mode: the mode to open it with.
    """


def test_numpydoc_becomes_prose() -> None:
    assert prose_sentences(cleandoc(NUMPYDOC)) == [
        "Compute the mean along an axis.",
        "It is taken over all elements by default, e.g. over the flattened array, see "
        "numpy.average for weights.",
        "The values to average.",
        "Axis along which the mean is computed.",
        "The mean of the values.",
        "A weighted mean of the values.",
        "The axis may be a tuple.",
        "After the code there is prose.",
    ]


def test_google_style_and_markdown_become_prose() -> None:
    assert prose_sentences(cleandoc(GOOGLE)) == [
        "Loads the model from a folder.",
        "The folder with the files of the model.",
        "Whether to refuse a file that is unknown, or to pass over it.",
        "The weights of the model by name.",
        "A list of what is fast.",
        "The second item of the list.",
    ]


def test_fields_become_prose() -> None:
    assert prose_sentences(cleandoc(SPHINX)) == [
        "The path to the file.",
        "whether the file is there.",
        "the mode to open it with.",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Too short.",
        "alpha beta gamma delta epsilon",  # names, no English
        "x = the + a * of / in",
        "call_me(with_this) and other_name or third_name of fourth_name",
        "The formula for the mean is given by",  # the formula itself was dropped
        "The following are known:",
        "See https://example.org for the rest of it.",
        "TODO this is to be done by somebody.",
        "The value is {value} of the type.",
        "| the | a | of | in |",
        "Das ist ein deutscher Satz ohne Sinn.",
        "the " * 1000,
    ],
)
def test_what_is_no_english_sentence_is_left_out(text: str) -> None:
    assert prose_sentences(text) == []


def test_sentences_are_split_but_not_after_abbreviations() -> None:
    text = "This is one (i.e. The first). Is this the second? J. Doe vs. Roe is the third one."
    assert prose_sentences(text) == [
        "This is one (i.e. The first).",
        "Is this the second?",
        "J. Doe vs. Roe is the third one.",
    ]
