//! For tests: a host as it is recorded in `/proc`, `/sys` and `/etc`.

pub fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    for (path, content) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().expect("has a parent")).expect("made");
        std::fs::write(path, content).expect("written");
    }
    root
}
