//! Can decoding start at this keyframe? Containers and parsers flag keyframes that need earlier pictures (intra refresh,
//! gradual recovery), so the NAL units decide: ITU-T H.264 7.4.1.2.1 and D.2.8, ITU-T H.265 7.4.2.2.

use std::ops::ControlFlow;

/// How the codec says that a keyframe is clean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    H264(Framing),
    Hevc(Framing),
    /// Codecs without such distinctions: the keyframe flag is enough (leading pictures follow from the frame order).
    Flag,
}

/// How NAL units are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Start codes (transport streams, AVI).
    AnnexB,
    /// Lengths of so many bytes (MP4, Matroska).
    Length(usize),
}

/// What the first bytes of a keyframe say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Decoding starts cleanly, and nothing that follows is shown before it.
    Closed,
    /// Decoding starts cleanly; leading pictures that belong to the group before may follow.
    Open,
    Unclean,
    /// The given bytes end before the slice that would say.
    Undecided,
}

impl Verdict {
    pub fn is_clean(self) -> bool {
        matches!(self, Self::Closed | Self::Open)
    }
}

impl Rule {
    pub fn new(codec: &str, extradata: &[u8]) -> Self {
        // An `avcC` or `hvcC` record has version 1 first; Annex B begins with zeros.
        let framing = |length_at: usize| match (extradata.first(), extradata.get(length_at)) {
            (Some(1), Some(byte)) => Framing::Length(usize::from(byte & 3) + 1),
            _ => Framing::AnnexB,
        };
        match codec {
            "h264" => Self::H264(framing(4)),
            "hevc" => Self::Hevc(framing(21)),
            _ => Self::Flag,
        }
    }

    /// Whether the whole packet breaks the syntax of NAL units, as a block of zeros that storage left behind does.
    /// Entropy decoders run through such blocks without noticing. Start codes cannot be checked so.
    pub fn is_broken(self, packet: &[u8]) -> bool {
        let (Self::H264(Framing::Length(bytes)) | Self::Hevc(Framing::Length(bytes))) = self else { return false };
        let mut rest = packet;
        while !rest.is_empty() {
            let Some((unit, more)) = length_prefixed(rest, bytes) else { return true };
            if holds_start_code(unit) {
                return true;
            }
            rest = more;
        }
        false
    }

    /// Judges a keyframe by its first bytes.
    pub fn judge(self, head: &[u8]) -> Verdict {
        match self {
            Self::Flag => Verdict::Closed,
            Self::H264(framing) => h264(head, framing),
            Self::Hevc(framing) => hevc(head, framing),
        }
    }
}

/// Three bytes that a NAL unit cannot hold: two zeros and less than the 3 of emulation prevention. Zeros at the end do
/// not count, since some writers pad.
fn holds_start_code(unit: &[u8]) -> bool {
    let end = unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    // Steps by two: of two neighbouring zeros one is always hit.
    (0..end.saturating_sub(1)).step_by(2).any(|i| {
        unit[i] == 0 && {
            let around = &unit[i.saturating_sub(1)..(i + 3).min(end)];
            around.windows(3).any(|w| w[0] == 0 && w[1] == 0 && w[2] < 3)
        }
    })
}

fn h264(head: &[u8], framing: Framing) -> Verdict {
    let mut recovers = false;
    nal_units(head, framing, |nal, whole| match nal.first().map(|byte| byte & 0x1f) {
        Some(5) => ControlFlow::Break(Verdict::Closed),
        Some(1..=4) => ControlFlow::Break(if recovers { Verdict::Open } else { Verdict::Unclean }),
        Some(6) if !whole => ControlFlow::Break(Verdict::Undecided),
        Some(6) => {
            recovers |= recovery_frames(&nal[1..]) == Some(0);
            ControlFlow::Continue(())
        }
        _ => ControlFlow::Continue(()),
    })
}

fn hevc(head: &[u8], framing: Framing) -> Verdict {
    nal_units(head, framing, |nal, _| match nal.first().map(|byte| byte >> 1 & 0x3f) {
        // IDR_N_LP is the only one that promises to have no leading pictures.
        Some(20) => ControlFlow::Break(Verdict::Closed),
        Some(16..=21) => ControlFlow::Break(Verdict::Open),
        Some(0..=31) => ControlFlow::Break(Verdict::Unclean),
        _ => ControlFlow::Continue(()),
    })
}

/// The first unit and what follows, if the unit is there to its end.
fn length_prefixed(bytes: &[u8], prefix: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(prefix)?;
    rest.split_at_checked(length.iter().fold(0, |n, &byte| n << 8 | usize::from(byte)))
}

/// Visits NAL units until one decides; the flag says whether the unit is there to its end.
fn nal_units(mut head: &[u8], framing: Framing, mut visit: impl FnMut(&[u8], bool) -> ControlFlow<Verdict>) -> Verdict {
    loop {
        let (unit, rest) = match framing {
            Framing::Length(bytes) => match length_prefixed(head, bytes) {
                Some((unit, rest)) => (unit, Some(rest)),
                None => (head.get(bytes..).unwrap_or_default(), None),
            },
            Framing::AnnexB => {
                let Some(start) = head.windows(3).position(|w| w == [0, 0, 1]) else { return Verdict::Undecided };
                let body = &head[start + 3..];
                match body.windows(3).position(|w| w == [0, 0, 1]) {
                    Some(end) => (&body[..end], Some(&body[end..])),
                    None => (body, None),
                }
            }
        };
        if unit.is_empty() && rest.is_none() {
            return Verdict::Undecided;
        }
        if let ControlFlow::Break(verdict) = visit(unit, rest.is_some()) {
            return verdict;
        }
        match rest {
            Some(rest) => head = rest,
            None => return Verdict::Undecided,
        }
    }
}

/// `recovery_frame_cnt` of the recovery point message in an SEI payload, if it has one.
fn recovery_frames(sei: &[u8]) -> Option<u32> {
    // Emulation prevention: 00 00 03 stands for 00 00.
    let mut zeros = 0;
    let mut plain = Vec::with_capacity(sei.len());
    for &byte in sei {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
        } else {
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            plain.push(byte);
        }
    }
    let mut rest = plain.as_slice();
    let number = |rest: &mut &[u8]| {
        let run = rest.iter().take_while(|&&byte| byte == 0xff).count();
        let last = *rest.get(run)?;
        *rest = &rest[run + 1..];
        Some(run * 255 + usize::from(last))
    };
    // A message has at least type and size; the trailing stop bit is one byte.
    while rest.len() > 2 {
        let kind = number(&mut rest)?;
        let size = number(&mut rest)?;
        let payload = rest.get(..size)?;
        if kind == 6 {
            return exp_golomb(payload);
        }
        rest = &rest[size..];
    }
    None
}

/// The unsigned Exp-Golomb number at the start (H.264 9.1).
fn exp_golomb(bytes: &[u8]) -> Option<u32> {
    let bit = |i: usize| bytes.get(i / 8).map(|byte| u32::from(byte >> (7 - i % 8) & 1));
    let mut zeros = 0;
    while bit(zeros)? == 0 {
        zeros += 1;
    }
    if zeros > 31 {
        return None;
    }
    let mut value = 0u32;
    for i in zeros..=2 * zeros {
        value = value << 1 | bit(i)?;
    }
    Some(value - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECOVERY_0: &[u8] = &[6, 6, 1, 0x84, 0x80]; // ue(0), exact_match, …
    const RECOVERY_3: &[u8] = &[6, 6, 1, 0x24, 0x80];

    fn annex_b(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&[0, 0, 0, 1], *unit].concat()).collect()
    }

    fn lengths(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&(unit.len() as u32).to_be_bytes()[..], unit].concat()).collect()
    }

    #[test]
    fn h264_starts_cleanly_at_an_idr_and_at_a_recovery_point_with_count_zero() {
        let rule = Rule::new("h264", &[1, 100, 0, 31, 0xff, 0xe1]);
        assert_eq!(rule, Rule::H264(Framing::Length(4)));
        let aud: &[u8] = &[9, 0xf0];
        assert_eq!(rule.judge(&lengths(&[aud, &[0x65, 1, 2, 3]])), Verdict::Closed);
        assert_eq!(rule.judge(&lengths(&[aud, RECOVERY_0, &[0x41, 1]])), Verdict::Open);
        assert_eq!(rule.judge(&lengths(&[aud, RECOVERY_3, &[0x41, 1]])), Verdict::Unclean);
        assert_eq!(rule.judge(&lengths(&[aud, &[0x41, 1]])), Verdict::Unclean);
        let rule = Rule::new("h264", &[]);
        assert_eq!(rule.judge(&annex_b(&[aud, RECOVERY_0, &[0x41, 1]])), Verdict::Open);
    }

    #[test]
    fn hevc_starts_cleanly_at_irap_pictures_only() {
        let rule = Rule::Hevc(Framing::AnnexB);
        let unit = |kind: u8| annex_b(&[&[35 << 1, 1], &[kind << 1, 1, 0xaf]]);
        assert_eq!(rule.judge(&unit(20)), Verdict::Closed);
        assert_eq!(rule.judge(&unit(19)), Verdict::Open);
        assert_eq!(rule.judge(&unit(21)), Verdict::Open);
        assert_eq!(rule.judge(&unit(1)), Verdict::Unclean);
    }

    #[test]
    fn a_message_that_does_not_fit_leaves_the_verdict_open() {
        let rule = Rule::H264(Framing::Length(4));
        let long = [&[6, 5, 200][..], &[7; 200], &[0x80]].concat();
        let whole = lengths(&[&long, &[0x65, 1]]);
        assert_eq!(rule.judge(&whole), Verdict::Closed);
        assert_eq!(rule.judge(&whole[..60]), Verdict::Undecided);
        assert_eq!(rule.judge(&[]), Verdict::Undecided);
    }

    #[test]
    fn a_block_of_zeros_breaks_a_packet() {
        let rule = Rule::H264(Framing::Length(4));
        for at in 0..8 {
            let mut slice: Vec<u8> = (1..=200).collect();
            assert!(!rule.is_broken(&lengths(&[&slice, &[0x65, 0, 0, 3, 1, 0, 0]])));
            slice[50 + at..53 + at].fill(0);
            assert!(rule.is_broken(&lengths(&[&[9, 0xf0], &slice])), "zeros from {at}");
        }
        assert!(rule.is_broken(&lengths(&[&[0x65, 1, 2]])[..6]));
        assert!(!Rule::H264(Framing::AnnexB).is_broken(&annex_b(&[&[0x65, 1]])));
    }

    #[test]
    fn a_recovery_point_is_found_behind_other_messages_and_emulation_prevention() {
        let sei = [&[1, 3, 0, 0, 3, 1][..], &RECOVERY_3[1..]].concat();
        assert_eq!(recovery_frames(&sei), Some(3));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            for rule in [Framing::AnnexB, Framing::Length(1), Framing::Length(4)] {
                Rule::H264(rule).judge(&bytes);
                Rule::Hevc(rule).judge(&bytes);
            }
        }
    }
}
