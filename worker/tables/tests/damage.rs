//! Tables that a store has damaged are refused or read; they end nothing.

use bytes::Bytes;
use fulltime_tables::shard::{DetectionRow, read_detections, write_detections};

#[test]
fn no_byte_of_a_footer_can_end_the_reader() {
    let row = |n: u32| DetectionRow { frame: n, class: 1, score: 0.5, x: 1.0, y: 2.0, w: 3.0, h: n as f32 };
    let good = write_detections(&(0..500).map(row).collect::<Vec<_>>()).unwrap();
    let footer = u32::from_le_bytes(good[good.len() - 8..good.len() - 4].try_into().unwrap()) as usize + 8;
    let mut refused = 0;
    for at in good.len() - footer..good.len() {
        for harm in [0x01, 0x80, 0xff] {
            let mut bytes = good.to_vec();
            bytes[at] ^= harm;
            refused += usize::from(read_detections(Bytes::from(bytes)).is_err());
        }
    }
    assert!(refused > footer / 4, "{refused} of {} were refused", 3 * footer);
}
