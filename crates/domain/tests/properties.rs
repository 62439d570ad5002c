//! Laws of mounts and times that hold for every input, however odd.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use gantry_domain::{
    GoTime,
    container::{
        Config, HostConfig, Mount, MountPoint,
        config::Empty,
        mount::{BindOptions, ImageOptions, TmpfsOptions, VolumeOptions},
        validate::mounts::{clean, inherit, mount_points, parse_volumes_from},
    },
};
use jiff::Timestamp;
use proptest::{option::of, prelude::*};

/// Absolute and relative ones, that climb, that repeat, with blanks, NUL and more than ASCII.
const PATH: &str = "(/|\\./|\\.\\./|//|a|b|é| |\0){0,8}";

fn mount() -> impl Strategy<Value = Mount> {
    let kind = prop_oneof![Just("bind"), Just("volume"), Just("tmpfs"), Just("image"), Just("npipe"), Just("")];
    let bind = of(("(r?(shared|slave|private))?", any::<bool>(), any::<bool>()));
    (kind, PATH, PATH, any::<bool>(), bind, of(PATH), of(PATH), of(any::<i64>())).prop_map(
        |(kind, source, target, read_only, bind, volume, image, tmpfs)| Mount {
            kind: kind.into(),
            source,
            target,
            read_only,
            bind_options: bind.map(|(propagation, non_recursive, create_mountpoint)| BindOptions {
                propagation,
                non_recursive,
                create_mountpoint,
                ..BindOptions::default()
            }),
            volume_options: volume.map(|subpath| VolumeOptions { subpath, ..VolumeOptions::default() }),
            image_options: image.map(|subpath| ImageOptions { subpath }),
            tmpfs_options: tmpfs.map(|size_bytes| TmpfsOptions { size_bytes, ..TmpfsOptions::default() }),
            ..Mount::default()
        },
    )
}

/// Mostly such as are taken.
fn good_mount() -> impl Strategy<Value = Mount> {
    ("(bind|volume|tmpfs|image)", "/?[a-c]{1,3}", "/[a-c]{1,2}/[a-c]{1,2}(/\\.{1,2})?", any::<bool>()).prop_map(
        |(kind, source, target, read_only)| Mount {
            source: match kind.as_str() {
                "tmpfs" => String::new(),
                "bind" => format!("/{source}"),
                _ => source.replace('/', ""),
            },
            kind,
            target,
            read_only,
            ..Mount::default()
        },
    )
}

fn host(mounts: Vec<Mount>, binds: Vec<String>, tmpfs: Vec<String>) -> HostConfig {
    let tmpfs: BTreeMap<String, String> = tmpfs.into_iter().map(|path| (path, String::new())).collect();
    HostConfig { mounts, binds: Some(binds), tmpfs, ..HostConfig::default() }
}

fn is_clean(place: &str) -> bool {
    place.starts_with('/')
        && place != "/"
        && !place.contains("//")
        && !place.contains('\0')
        && !place.split('/').any(|part| part == "." || part == "..")
}

fn point(destination: String, anonymous: bool) -> MountPoint {
    MountPoint { kind: "volume".into(), destination, anonymous, ..MountPoint::default() }
}

fn places(points: &[MountPoint]) -> Vec<&str> {
    points.iter().map(|point| point.destination.as_str()).collect()
}

fn are_distinct(points: &[MountPoint]) -> bool {
    places(points).iter().collect::<BTreeSet<_>>().len() == points.len()
}

proptest! {
    #[test]
    fn whatever_is_asked_mounts_are_refused_or_lie_at_distinct_clean_places(
        mounts in prop::collection::vec(prop_oneof![mount(), good_mount()], 0..4),
        binds in prop::collection::vec("[a-c/.:]{0,12}", 0..3),
        volumes in prop::collection::btree_set(PATH, 0..3),
        tmpfs in prop::collection::vec("/[a-c]{1,2}", 0..2),
    ) {
        let volumes = Some(volumes.into_iter().map(|path| (path, Empty {})).collect());
        let host = host(mounts, binds, tmpfs);
        if let Ok(points) = mount_points(&Config { volumes, ..Config::default() }, &host) {
            prop_assert!(are_distinct(&points), "{points:?}");
            for point in &points {
                prop_assert!(is_clean(&point.destination), "{point:?}");
                prop_assert!(["bind", "volume", "tmpfs", "image"].contains(&point.kind.as_str()));
                prop_assert!(point.kind != "bind" || point.source.starts_with('/'), "{point:?}");
                prop_assert!(point.anonymous == (point.kind == "volume" && point.name.is_empty()));
            }
        }
    }

    #[test]
    fn a_mount_that_is_taken_is_as_it_was_asked_and_taken_again(mount in good_mount()) {
        let taken = mount_points(&Config::default(), &host(vec![mount.clone()], vec![], vec![]));
        let points = taken.unwrap();
        let [point] = &points[..] else { panic!("{points:?}") };
        prop_assert_eq!(point.spec.as_ref(), Some(&mount));
        prop_assert_eq!(&point.destination, &clean(&mount.target));
        prop_assert_eq!(point.rw, !mount.read_only);
        let again = Mount { target: point.destination.clone(), ..mount };
        let again = mount_points(&Config::default(), &host(vec![again], vec![], vec![])).unwrap();
        prop_assert_eq!(&again[0].destination, &point.destination);
    }

    #[test]
    fn cleaning_a_path_never_climbs_and_is_done_once(path in PATH) {
        let once = clean(&path);
        prop_assert!(once == "/" || is_clean(&once) || path.contains('\0'), "{once:?}");
        prop_assert_eq!(clean(&once), once);
    }

    #[test]
    fn volumes_from_is_a_name_and_whether_it_may_be_written(spec in "[a-z:,]{0,12}") {
        if let Ok((name, writable)) = parse_volumes_from(&spec) {
            let mode = spec.split_once(':').map_or("rw", |(_, mode)| mode);
            prop_assert!(!name.contains(':') && spec.starts_with(name));
            prop_assert_eq!(writable, !mode.split(',').any(|word| word == "ro"));
        }
        for (mode, writable) in [("", true), (":rw", true), (":ro", false), (":z", true), (":ro,Z", false)] {
            let name = spec.replace(':', "");
            prop_assume!(!name.is_empty());
            let spec = format!("{name}{mode}");
            prop_assert_eq!(parse_volumes_from(&spec).unwrap(), (name.as_str(), writable));
        }
    }

    #[test]
    fn what_is_inherited_yields_to_what_is_asked_and_nothing_is_lost(
        own in prop::collection::btree_map("/[a-d]", any::<bool>(), 0..4),
        inherited in prop::collection::btree_set("/[a-d]", 0..4),
    ) {
        let theirs: Vec<MountPoint> = inherited.iter().map(|path| point(path.clone(), false)).collect();
        let asked: Vec<MountPoint> = own.iter().map(|(path, anonymous)| MountPoint {
            source: "own".into(), ..point(path.clone(), *anonymous)
        }).collect();
        let all = inherit(asked.clone(), theirs);
        prop_assert!(are_distinct(&all));
        let wanted: BTreeSet<&str> = own.keys().chain(&inherited).map(String::as_str).collect();
        prop_assert_eq!(places(&all).into_iter().collect::<BTreeSet<_>>(), wanted);
        for own in asked.iter().filter(|point| !point.anonymous || !inherited.contains(&point.destination)) {
            prop_assert!(all.contains(own));
        }
    }

    #[test]
    fn a_time_is_printed_as_go_does_and_read_back(second in -62_135_596_799i64..253_402_200_000, nano in 0i32..1_000_000_000) {
        let time = GoTime::from(Timestamp::new(second, nano).unwrap());
        let text = time.to_string();
        prop_assert!(text.ends_with('Z') && text.as_bytes()[10] == b'T' && text.len() <= 30, "{text}");
        let fraction = text.split_once('.').map(|(_, fraction)| fraction.trim_end_matches('Z'));
        prop_assert!(fraction.is_none_or(|digits| !digits.is_empty() && !digits.ends_with('0')), "{text}");
        prop_assert_eq!(serde_json::from_str::<GoTime>(&serde_json::to_string(&time).unwrap()).unwrap(), time);
        prop_assert!(!time.is_zero());
    }

    #[test]
    fn a_time_of_another_zone_is_the_same_moment(second in 0i64..4_000_000_000, hours in 0i64..14) {
        let time = Timestamp::from_second(second).unwrap();
        let there = Timestamp::from_second(second + hours * 3600).unwrap().to_string();
        let text = format!("\"{}+{hours:02}:00\"", there.trim_end_matches('Z'));
        prop_assert_eq!(serde_json::from_str::<GoTime>(&text).unwrap(), GoTime::from(time));
    }

    #[test]
    fn what_is_no_time_is_refused(text in "[0-9TZ:.+ -]{1,30}") {
        if let Ok(time) = serde_json::from_value::<GoTime>(text.clone().into()) {
            prop_assert!(!time.is_zero() || text == gantry_domain::time::GO_ZERO, "{text}");
        }
    }
}

#[test]
fn never_is_gos_zero_time_in_both_directions() {
    assert_eq!(GoTime::default().to_string(), "0001-01-01T00:00:00Z");
    for text in ["\"0001-01-01T00:00:00Z\"", "\"\""] {
        assert!(serde_json::from_str::<GoTime>(text).unwrap().is_zero());
    }
    assert_eq!(GoTime::default().unix(), 0);
}
