//! The byte-level alphabet: each byte written as one printable character, as GPT-2 defined it.
//!
//! Vocabularies and merges are written in it. Knows bytes and characters, no tokens.

/// Bytes that stand for themselves: the printable ones of Latin-1.
const fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

const N_UNPRINTABLE: usize = {
    let mut n = 0;
    let mut byte = 0;
    while byte < 256 {
        n += !is_printable(byte as u8) as usize;
        byte += 1;
    }
    n
};

/// The unprintable bytes, ascending. The n-th is written as U+0100 + n.
const UNPRINTABLE: [u8; N_UNPRINTABLE] = {
    let mut bytes = [0; N_UNPRINTABLE];
    let mut n = 0;
    let mut byte = 0;
    while byte < 256 {
        if !is_printable(byte as u8) {
            bytes[n] = byte as u8;
            n += 1;
        }
        byte += 1;
    }
    bytes
};

/// The character of each byte.
const CHARS: [char; 256] = {
    let mut chars = ['\0'; 256];
    let mut byte = 0;
    while byte < 256 {
        chars[byte] = byte as u8 as char;
        byte += 1;
    }
    let mut n = 0;
    while n < N_UNPRINTABLE {
        chars[UNPRINTABLE[n] as usize] = match char::from_u32(0x100 + n as u32) {
            Some(c) => c,
            None => unreachable!(),
        };
        n += 1;
    }
    chars
};

/// The character that stands for `byte`.
pub(crate) fn char_of(byte: u8) -> char {
    CHARS[usize::from(byte)]
}

/// The byte that `c` stands for.
pub(super) fn byte_of(c: char) -> Option<u8> {
    let code = u32::from(c);
    match u8::try_from(code) {
        Ok(byte) => is_printable(byte).then_some(byte),
        Err(_) => UNPRINTABLE.get(usize::try_from(code.checked_sub(0x100)?).ok()?).copied(),
    }
}

/// Whether `byte` can occur in UTF-8 at all.
pub(super) fn is_in_utf8(byte: u8) -> bool {
    !matches!(byte, 0xc0 | 0xc1 | 0xf5..=0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        for byte in 0..=255 {
            assert_eq!(byte_of(char_of(byte)), Some(byte));
        }
    }

    #[test]
    fn the_landmarks_are_where_gpt2_put_them() {
        assert_eq!(char_of(b'\n'), 'Ċ');
        assert_eq!(char_of(b' '), 'Ġ');
        assert_eq!(char_of(0x7f), 'ġ');
        assert_eq!(char_of(0xad), '\u{143}');
        assert_eq!(char_of(b'a'), 'a');
        assert_eq!(char_of(0xff), 'ÿ');
        for c in [' ', '\n', '\u{ad}', '\u{144}', '｜', '\u{10ffff}'] {
            assert_eq!(byte_of(c), None, "{c:?}");
        }
    }
}
