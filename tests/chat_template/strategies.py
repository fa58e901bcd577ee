"""What people and attackers type, for hypothesis."""

from hypothesis import strategies as st

from tests.chat_template.oracle import Turn

CONTROL = ("</s>", "<s>", "<unk>")
"""The spellings of the test tokenizers' control tokens."""

ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyzABCDEFGH .,:;!?'\"()-",
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工，。？！：；“”",
    "0123456789０１２３ＡＢＣ％＄（）［］．＜／ｓ＞",
    "😀👩‍👩‍👧🏳️‍🌈🇨🇳é\u0301\u200b\u200d",
    "\x00\x01\x07\x08\x1b\x7f\u0085\ufeff\ufffd",
    "שלוםعربي\u202e\u200f",
    " \t\n\r\u00a0\u3000▁",
    "<>/s_unk0xA|[]{}#%\\",
)
WORDS = (
    "Human:",
    "Assistant:",
    " Assistant: ",
    "\nHuman: ",
    "<0x0A>",
    "</",
    "s>",
    "a" * 300,
    "市盈率" * 80,
    "x_" * 50,
    "<unused12345>",
)

words = st.one_of(
    *(st.text(alphabet, max_size=12) for alphabet in ALPHABETS), st.sampled_from(WORDS), st.text(max_size=8)
)
harmless = st.lists(words, max_size=6).map("".join).filter(lambda text: not any(c in text for c in CONTROL))
hostile = st.lists(st.one_of(words, st.sampled_from(CONTROL)), max_size=8).map("".join)


def conversations(text: st.SearchStrategy[str], *, most_pairs: int = 3) -> st.SearchStrategy[list[Turn]]:
    """Alternating turns that start and end with the user's, whose text is never empty."""
    question = text.filter(str.strip)
    pairs = st.lists(st.tuples(question, text), max_size=most_pairs)
    return st.builds(
        lambda pairs, last: [
            *(turn for asked, answered in pairs for turn in (("user", asked), ("assistant", answered))),
            ("user", last),
        ],
        pairs,
        question,
    )
