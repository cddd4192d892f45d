//! A small ONNX model written by hand (protobuf, field numbers of onnx.proto), so that these tests need no files.

use std::path::PathBuf;

/// The runtime, unless this machine has none: then the test says so and passes.
pub fn runtime() -> Option<PathBuf> {
    let found = fulltime_common::process::onnxruntime();
    if found.is_none() {
        println!("skipped: no ONNX Runtime here, `cargo xtask test` brings one");
    }
    found
}

/// `output = Reshape(images, [0, rows, columns])`: keeps the batch, regroups the values. Negative dimensions are open.
pub fn reshape(input: [i64; 4], item: [i64; 2], declared: [i64; 3]) -> Vec<u8> {
    reshapes(input, &[("output", item, declared)])
}

/// The same with several outputs, each of all the values: name, item and declared shape.
pub fn reshapes(input: [i64; 4], outputs: &[(&str, [i64; 2], [i64; 3])]) -> Vec<u8> {
    let (mut nodes, mut shapes, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for (name, item, declared) in outputs {
        let shape_name = format!("{name}_shape");
        let mut node = Vec::new();
        bytes(&mut node, 1, b"images");
        bytes(&mut node, 1, shape_name.as_bytes());
        bytes(&mut node, 2, name.as_bytes());
        bytes(&mut node, 4, b"Reshape");
        bytes(&mut nodes, 1, &node);

        let mut shape = Vec::new();
        bytes(&mut shape, 8, shape_name.as_bytes());
        number(&mut shape, 1, 3); // dims
        number(&mut shape, 2, 7); // int64
        let dims: Vec<u8> = [0, item[0], item[1]].iter().flat_map(|dim: &i64| dim.to_le_bytes()).collect();
        bytes(&mut shape, 9, &dims);
        bytes(&mut shapes, 5, &shape);

        bytes(&mut values, 12, &value(name, declared));
    }
    let mut graph = nodes;
    bytes(&mut graph, 2, b"reshape");
    graph.extend(shapes);
    bytes(&mut graph, 11, &value("images", &input));
    graph.extend(values);

    let mut opset = Vec::new();
    number(&mut opset, 2, 13);
    let mut model = Vec::new();
    number(&mut model, 1, 8); // IR version
    bytes(&mut model, 7, &graph);
    bytes(&mut model, 8, &opset);
    model
}

fn value(name: &str, dims: &[i64]) -> Vec<u8> {
    let mut shape = Vec::new();
    for (i, &dim) in dims.iter().enumerate() {
        let mut entry = Vec::new();
        match u64::try_from(dim) {
            Ok(dim) => number(&mut entry, 1, dim),
            Err(_) => bytes(&mut entry, 2, format!("d{i}").as_bytes()),
        }
        bytes(&mut shape, 1, &entry);
    }
    let mut tensor = Vec::new();
    number(&mut tensor, 1, 1); // f32
    bytes(&mut tensor, 2, &shape);
    let mut kind = Vec::new();
    bytes(&mut kind, 1, &tensor);
    let mut info = Vec::new();
    bytes(&mut info, 1, name.as_bytes());
    bytes(&mut info, 2, &kind);
    info
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
