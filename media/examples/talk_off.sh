#!/usr/bin/env bash
# Talk-off of the in-band key detector over synthesised speech and music:
#   talk_off.sh WORK_DIRECTORY MINUTES_PER_VOICE [LEVEL_DBM0]
# Speech is made by espeak-ng from random words, drawn with a fixed seed from lists of its own, so
# that every syllable occurs; music is plucked and bowed chords made by sox.
set -euo pipefail
work=$1 minutes=$2 level=${3:--15}
here=$(cd "$(dirname "$0")/.." && pwd)
talk_off=$here/target/release/examples/talk_off
[[ -x $talk_off ]] || talk_off=${TALK_OFF:?build the example talk_off, or name it in TALK_OFF}
mkdir -p "$work"

# words LANGUAGE SEED COUNT: words or hanzi with a full stop now and then.
words() {
  python3 - "$@" <<'PYTHON'
import random
import sys

language, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
draw = random.Random(seed)
onsets = "b c d f g h j k l m n p r s t v w sh ch th st tr pl br gr fl".split()
nuclei = "a e i o u ea oo ai ou ay ee oi".split()
codas = ["", "n", "t", "s", "r", "l", "m", "nd", "st", "ck", "ng"]
text = []
for index in range(count):
    if language == "zh":
        # The characters of GB 2312 level 1, ordered by sound: all syllables of the language.
        code = 16 * 94 + draw.randrange(3755)
        text.append(bytes((0xA0 + code // 94, 0xA1 + code % 94)).decode("gb2312"))
    else:
        sounds = (draw.choice(onsets) + draw.choice(nuclei) for _ in range(draw.randint(1, 3)))
        text.append("".join(sounds) + draw.choice(codas) + " ")
    if index % 12 == 11:
        text.append("。" if language == "zh" else ". ")
print("".join(text))
PYTHON
}

# speech VOICE LANGUAGE SEED PITCH WORDS_A_MINUTE
speech() {
  local voice=$1 language=$2 seed=$3 pitch=$4 speed=$5
  words "$language" "$seed" $((minutes * speed)) |
    espeak-ng -v "$voice" -p "$pitch" -s "$speed" --stdout |
    sox -t wav --ignore-length - -t raw -r 8000 -b 16 -e signed -c 1 - norm -3 2>/dev/null
}

report() { printf '%-28s %s\n' "$1" "$("$talk_off" "$level" | tail -n "${LINES_SHOWN:-1}")"; }

seed=1
for voice in cmn-latn-pinyin cmn yue en-us en-gb en-us+f2 en-us+f4 cmn-latn-pinyin+f3 \
  cmn-latn-pinyin+m3 cmn-latn-pinyin+f5 en-us+m7 en-gb+croak en-us+whisper en-us+klatt2; do
  language=en
  case $voice in cmn* | yue*) language=zh ;; esac
  for tune in "35 150" "50 170" "75 200"; do
    read -r pitch speed <<<"$tune"
    speech "$voice" "$language" "$seed" "$pitch" "$speed" | report "$voice $pitch $speed"
    seed=$((seed + 1))
  done
done

# music TIMBRE: chords of three notes of half a second.
music() {
  python3 - "$1" "$minutes" <<'PYTHON' | sox -t raw -r 8000 -b 32 -e float -c 1 - -t raw -b 16 -e signed -
import array
import math
import random
import sys

timbre, minutes = sys.argv[1], int(sys.argv[2])
harmonics = {"string": 8, "organ": 5, "flute": 3}[timbre]
draw = random.Random(timbre)
for _ in range(minutes * 120):
    root = draw.randrange(40, 76)
    notes = [440 * 2 ** ((root + step - 69) / 12) for step in draw.choice(((0, 4, 7), (0, 3, 7)))]
    out = array.array("f")
    for at in range(4000):
        decay = math.exp(-at / 1600) if timbre == "string" else min(1, at / 80, (4000 - at) / 80)
        value = sum(
            math.sin(6.283185307 * note * k * at / 8000) / k
            for note in notes
            for k in range(1, harmonics + 1)
            if note * k < 3800
        )
        out.append(0.15 * decay * value)
    sys.stdout.buffer.write(out.tobytes())
PYTHON
}

for timbre in string organ flute; do
  music "$timbre" | report "music $timbre"
done
