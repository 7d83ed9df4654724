"""CSV: quoted line breaks, byte order marks, rows of the wrong width or code."""

from pathlib import Path

from tests.steel_data.read.test_bad_input import rows_of
from tests.steel_data.read.test_formats import read, write

from steel_data.read.formats import scan_file


def test_csv_quoted_line_breaks_byte_order_mark_and_nameless_index(tmp_path: Path) -> None:
    data = b'\xef\xbb\xbf,Question,A\r\n0,"\xe9\x92\xa2\r\n""1""",x\r\n\r\n1,"a,b",\r\n'
    path = write(tmp_path, "a.csv", data)
    rows = read(path, scan_file(path))
    assert [row.value for row in rows] == [
        {"": "0", "Question": '钢\r\n"1"', "A": "x"},
        {"": "1", "Question": "a,b", "A": ""},
    ]


def test_csv_rows_of_the_wrong_width_and_code(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'a,b\n1,2\n1\n1,2,3\n"x"y,2\n\xb0,2\n\xed\xa0\x80,2\n5,"6\n7"\n1\r2,3\n9,9')
    rows = rows_of(path)
    assert [row.value for row in rows if row.value] == [
        {"a": "1", "b": "2"},
        {"a": "5", "b": "6\n7"},
        {"a": "9", "b": "9"},
    ]
    assert [row.row for row in rows] == list(range(9))
    assert [row.error for row in rows if row.error] == [
        "line 3: 1 field, the header has 2; 1",
        "line 4: 3 fields, the header has 2; 1 | 2 | 3",
        "line 5: broken csv (',' expected after '\"')",
        "line 6: not UTF-8 (byte 0xb0); ? | 2",
        "line 7: not UTF-8 (byte 0xed); ??? | 2",
        rows[7].error,
    ]
    assert rows[7].error is not None and rows[7].error.startswith("line 10: broken csv (new-line")
