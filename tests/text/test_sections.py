"""A file of any kind is read in sections, each with the place it stands at; what cannot be read is named in a line."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import pytest

from extmem.errors import CorpusError
from extmem.text.sections import Section, read_sections


def pdf(pages: Sequence[str]) -> bytes:
    """A PDF file of pages that show lines of text; one of "" shows nothing."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for text in pages:
        shown = "".join(f"({line}) Tj 0 -14 Td " for line in text.split("\n") if line)
        stream = f"BT /F1 12 Tf 72 720 Td {shown}ET" if shown else ""
        kids.append(f"{len(objects) + 1} 0 R")
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> "
            f"/Contents {len(objects) + 2} 0 R >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    content, places = "%PDF-1.4\n", []
    for number, written in enumerate(objects, 1):
        places.append(len(content))
        content += f"{number} 0 obj\n{written}\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    end = (
        f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\n"
    )
    return f"{content}{end}startxref\n{len(content)}\n%%EOF\n".encode()


def read(folder: Path, name: str, content: str | bytes) -> list[Section]:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_sections(file))


def test_a_text_is_one_section(tmp_path: Path) -> None:
    assert read(tmp_path, "a.txt", "One.\r\nTwo.\n") == [Section("One.\nTwo.\n")]
    assert read(tmp_path, "a.txt.gz", gzip.compress(b"One.")) == [Section("One.")]


def test_markdown_is_cut_at_headings_and_not_in_code(tmp_path: Path) -> None:
    text = "Before.\n\n# Apples\nRed.\n\n## Kinds\n```\n# no heading\n```\nMany.\n# Pears\nGreen."
    found = [(section.title, section.line, section.text.split("\n")[0]) for section in read(tmp_path, "a.md", text)]
    assert found == [
        ("", 1, "Before."),
        ("Apples", 3, "# Apples"),
        ("Apples / Kinds", 6, "## Kinds"),
        ("Pears", 11, "# Pears"),
    ]


def test_a_page_of_html_gives_what_its_reader_sees(tmp_path: Path) -> None:
    text = """<!doctype html><head><title>no</title><style>p {color: red}</style><body><nav>no</nav>
<h1>A &amp; <i>B</i></h1>
<p>One
   <b>two</b><p>three<script>no()</script>
<h2>Sub</h2><table><tr><td>x<td>y</table><time>noon</time> sharp"""
    assert read(tmp_path, "a.html", text) == [
        Section("A & B\nOne two\nthree", None, 2, "A & B", False),
        Section("Sub\nx\ny\nnoon sharp", None, 5, "A & B / Sub", False),
    ]


def test_what_is_not_closed_hides_nothing_and_a_page_without_headings_has_its_own_title(tmp_path: Path) -> None:
    text = "<head><title>Fruit</title></head><nav>no<body><p>Apples &lt; pears."
    assert read(tmp_path, "a.html", text) == [Section("Apples < pears.", None, 1, "Fruit", False)]


def test_headings_of_any_depth_and_fences_of_any_length_are_read(tmp_path: Path) -> None:
    text = "### Deep\na\n## Upper\nb\n````\n```\n# no\n````\n```one line```\n# Top\nc"
    assert [section.title for section in read(tmp_path, "a.md", text)] == ["Deep", "Upper", "Top"]


def test_a_table_gives_a_section_a_row_with_its_line(tmp_path: Path) -> None:
    found = read(tmp_path, "a.csv", 'name,what\napple,"red\nfruit"\npear,green,extra\n,\n')
    assert found == [
        Section("name: apple\nwhat: red fruit", None, 2, "apple", False),
        Section("name: pear\nwhat: green\ncolumn 3: extra", None, 4, "pear", False),
    ]
    assert read(tmp_path, "b.csv", "name,dose,dose,\nx,1,2,3\n")[0].text == "name: x\ndose: 1\ncolumn 3: 2\ncolumn 4: 3"
    assert read(tmp_path, "a.tsv", "q\ta\n1\t2\n") == [Section("q: 1\na: 2", None, 2, "", False)]


def test_json_lines_give_their_text_or_all_their_fields(tmp_path: Path) -> None:
    found = read(tmp_path, "a.jsonl", '{"id": 1, "question": "why?", "more": [1]}\n\n{"text": "so", "title": "T"}\n')
    assert found == [
        Section("id: 1\nquestion: why?\nmore: [1]", None, 1, "why?", False),
        Section("so", None, 3, "T", False),
    ]


def test_a_pdf_gives_its_pages(tmp_path: Path) -> None:
    found = read(tmp_path, "a.pdf", pdf(["Apples are red.\nThey grow.", "", "Pears are green."]))
    assert [(section.page, section.text.split()) for section in found] == [
        (1, ["Apples", "are", "red.", "They", "grow."]),
        (3, ["Pears", "are", "green."]),
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.pdf", pdf(["", ""]), "pictures of pages: run it through OCR"),
        ("a.pdf", b"%PDF-1.4\nnothing more", "not a whole PDF"),
        ("a.pdf", pdf(["text"] * 3)[:300], "PDF|no text"),
        ("a.txt", b"  \n", "holds no text"),
        ("a.txt", b"a\0b", "binary"),
        ("a.csv", b"name,what\n", "holds no text"),
        ("a.jsonl", b'{"text": "x"}\n{', "line 2 is not JSON"),
        ("a.jsonl", b"[1]", "line 1 is not an object"),
        ("a.jsonl", b'{"text": "half \\ud800"}', "line 1 holds half a character"),
        ("a.html", b"<p>a</p><![x<p>b</p>", "not HTML"),
        ("a.docx", b"PK", "of a kind that is not read"),
        ("a.txt.gz", b"no gzip", "not a whole gzip"),
    ],
)
def test_what_cannot_be_read_is_named_in_a_line(
    name: str, content: bytes, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(CorpusError, match=said) as refused:
        read(tmp_path, name, content)
    assert str(tmp_path / name) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert caplog.records == []
