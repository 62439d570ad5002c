//! Writes and reads 64 MiB in lines of 100 bytes in each format and prints the time it took.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, time::Instant};

use gantry_logs::{End, Format, Options, Query, Reader, STDOUT, Writer, compress::InPlace, time};

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let chunk: Vec<u8> = (0..327).flat_map(|i| format!("{i:099}\n").into_bytes()).collect();
    for format in [Format::JsonFile, Format::Local] {
        let path = folder.path().join(format!("{format:?}"));
        let attrs = BTreeMap::new();
        let options = Options { format, path: path.clone(), max_size: None, max_files: 1, compress: false, attrs };
        let start = Instant::now();
        let mut writer = Writer::open(options, Box::new(InPlace)).unwrap();
        for _ in 0..(64 << 20) / chunk.len() {
            writer.append(STDOUT, &chunk, time::now());
        }
        let written = start.elapsed();
        let start = Instant::now();
        let mut reader = Reader::open(&path, Query::default(), End::Now).unwrap();
        let (mut entries, mut bytes) = (0, 0);
        while let Some(batch) = reader.next_batch().unwrap() {
            entries += batch.entries.len();
            bytes += batch.data.len();
        }
        println!("{format:?}: {entries} lines, {bytes} bytes: written in {written:?}, read in {:?}", start.elapsed());
    }
}
