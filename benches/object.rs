//! Objects and content: encoding and decoding a tree of 100,000 rows, hashing a mebibyte.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use resolver::BlobId;
use store_fs::digest::{digest, proves};
use store_fs::{Tree, TreeBuilder};

/// Files in a directory of the tree.
const DIRECTORY: usize = 100;
const MEBIBYTE: usize = 1024 * 1024;
/// What one group of content is verified by at a read.
const GROUP: usize = 64 * 1024;

fn main() {
    let is_smoke = std::env::args().any(|argument| argument == "--test");
    let rows = if is_smoke { 1_000 } else { 100_000 };
    let mut criterion = Criterion::default().configure_from_args();
    tree(&mut criterion, rows);
    content(&mut criterion);
    criterion.final_summary();
}

fn tree(criterion: &mut Criterion, rows: usize) {
    let paths: Vec<String> = (0..rows)
        .map(|number| format!("share/directory-{:04}/file-{number:06}", number / DIRECTORY))
        .collect();
    let (id, bytes) = build(&paths).encode().expect("a good tree");
    let decoded = Tree::decode(id, bytes.clone()).expect("as it was encoded");
    assert!(decoded.rows() as usize > rows);

    let mut group = criterion.benchmark_group("object");
    group.sample_size(20).throughput(Throughput::Elements(rows as u64));
    group.bench_function("build", |bencher| {
        bencher.iter_with_large_drop(|| build(&paths));
    });
    group.bench_function("encode", |bencher| {
        bencher.iter_batched(|| build(&paths), TreeBuilder::encode, BatchSize::LargeInput);
    });
    group.bench_function("decode", |bencher| {
        let again = || bytes.clone();
        bencher.iter_batched(again, |bytes| Tree::decode(id, bytes), BatchSize::LargeInput);
    });
    let path = paths[rows / 2].as_bytes();
    group.throughput(Throughput::Elements(1));
    group.bench_function("find a path", |bencher| {
        bencher.iter(|| decoded.find(black_box(path)).expect("it is in the tree"));
    });
    group.finish();
}

fn build(paths: &[String]) -> TreeBuilder {
    let mut tree = TreeBuilder::new();
    for (number, path) in paths.iter().enumerate() {
        let mut blob = [0; 32];
        blob[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let blob = BlobId::from_bytes(blob);
        tree.file(path.as_bytes(), blob, number as u64, 1, false).expect("a good path");
    }
    tree
}

fn content(criterion: &mut Criterion) {
    let bytes: Vec<u8> = (0..MEBIBYTE).map(|at| (at / 8 * 31) as u8).collect();
    let mut group = criterion.benchmark_group("content");
    group.throughput(Throughput::Bytes(MEBIBYTE as u64));
    group.bench_function("digest of 1 MiB", |bencher| bencher.iter(|| digest(black_box(&bytes))));
    let group_of_it = &bytes[..GROUP];
    let id = digest(group_of_it).id;
    group.throughput(Throughput::Bytes(GROUP as u64));
    group.bench_function("verify 64 KiB", |bencher| {
        bencher.iter(|| assert!(proves(&id, black_box(group_of_it))));
    });
    group.finish();
}
