//! Reading EBML (RFC 8794), the syntax of Matroska: element headers, the children of an element in memory, numbers.

/// The head of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// With its marker bits, as specifications print it.
    pub id: u32,
    /// Bytes of data; `None` when the writer did not know (live streams).
    pub size: Option<u64>,
    /// Bytes of the head itself.
    pub len: u64,
}

/// No element head is longer: four bytes of id, eight of size.
pub(crate) const LONGEST_HEAD: u64 = 12;

/// Parses an element's head.
pub(crate) fn head(bytes: &[u8]) -> Option<Head> {
    let id_len = length(*bytes.first()?).filter(|&n| n <= 4)?;
    let id = bytes.get(..id_len)?.iter().fold(0, |id, &byte| id << 8 | u32::from(byte));
    let (size, size_len) = vint(&bytes[id_len..])?;
    let unknown = size == (1 << (7 * size_len)) - 1;
    Some(Head { id, size: (!unknown).then_some(size), len: (id_len + size_len) as u64 })
}

/// A number of variable length without its marker, and the bytes it takes.
pub(crate) fn vint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let len = length(first)?;
    let first = u64::from(first) & ((1 << (8 - len)) - 1);
    let value = bytes.get(1..len)?.iter().fold(first, |value, &byte| value << 8 | u64::from(byte));
    Some((value, len))
}

fn length(first: u8) -> Option<usize> {
    (first != 0).then(|| first.leading_zeros() as usize + 1)
}

/// The elements of a body that is in memory; ends at the first that is damaged.
pub(crate) fn children(mut body: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    std::iter::from_fn(move || {
        let Head { id, size, len } = head(body)?;
        let rest = body.get(len as usize..)?;
        let (child, rest) = rest.split_at_checked(usize::try_from(size?).ok()?)?;
        body = rest;
        Some((id, child))
    })
}

/// The first child of that kind.
pub(crate) fn child(body: &[u8], wanted: u32) -> Option<&[u8]> {
    children(body).find_map(|(id, body)| (id == wanted).then_some(body))
}

/// An unsigned integer element.
pub(crate) fn uint(body: &[u8]) -> u64 {
    body.iter().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_children_are_read_as_the_rfc_says() {
        assert_eq!(head(&[0xe7, 0x81, 5]), Some(Head { id: 0xe7, size: Some(1), len: 2 }));
        let unknown = head(&[0x1f, 0x43, 0xb6, 0x75, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(unknown, Some(Head { id: 0x1f43_b675, size: None, len: 12 }));
        assert_eq!(vint(&[0x40, 0x02]), Some((2, 2)));
        let body = [0xd7, 0x81, 1, 0x83, 0x82, 1, 0, 0xae, 0x90];
        assert_eq!(children(&body).collect::<Vec<_>>(), [(0xd7, &[1][..]), (0x83, &[1, 0])]);
        assert_eq!(child(&body, 0x83).map(uint), Some(256));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
            head(&bytes);
            children(&bytes).count();
        }
    }
}
