//! Paths made fit for the router: cleaned, and names that contain slashes put into one segment.
//!
//! Docker's routes take `{name:.*}`: `/images/registry.io/a/b:tag/json` is an image's inspect. The router below
//! matches one segment for each name, so the slashes inside a name are percent-encoded here.

use http::Method;

/// The paths of the route table, split once.
pub struct Templates(Vec<Template>);

struct Template {
    method: Method,
    segments: Vec<&'static str>,
    /// Index of the segment that is a name and may span several.
    name: Option<usize>,
}

impl Templates {
    pub fn new(routes: impl Iterator<Item = (Method, &'static str)>) -> Self {
        let mut templates: Vec<_> = routes
            .map(|(method, path)| {
                let segments: Vec<_> = path.split('/').skip(1).collect();
                let name = segments.iter().position(|segment| segment.starts_with('{'));
                Template { method, segments, name }
            })
            .collect();
        // `/images/{name}/json` is to win over `/images/{name}`.
        templates.sort_by_key(|template| std::cmp::Reverse(template.segments.len()));
        Self(templates)
    }

    /// The path as the router is to see it.
    pub fn fit(&self, method: &Method, path: &str) -> String {
        let cleaned = clean(path);
        let segments: Vec<_> = cleaned.split('/').skip(1).collect();
        let candidates = || self.0.iter().filter(|template| template.method == *method);
        if let Some(template) = candidates().find(|template| template.matches_exactly(&segments)) {
            return match template.name.filter(|at| self.is_word(*at, &segments)) {
                Some(at) => hide(&segments, at),
                None => cleaned,
            };
        }
        match candidates().find_map(|template| template.span(&segments)) {
            Some((start, end)) => {
                let name = segments[start..end].join("%2F");
                let parts =
                    segments[..start].iter().copied().chain([name.as_str()]).chain(segments[end..].iter().copied());
                parts.fold(String::with_capacity(cleaned.len() + 8), |path, segment| path + "/" + segment)
            }
            None => cleaned,
        }
    }

    /// Whether what stands for a name here is a word of a longer or other route: `DELETE /containers/json`.
    fn is_word(&self, at: usize, segments: &[&str]) -> bool {
        let word =
            |template: &Template| template.segments.get(at) == segments.get(at) && template.matches_exactly(segments);
        self.0.iter().any(word)
    }
}

/// The router takes a word before a name, and does not turn back where the word has no such method: a name is written
/// so that it is no word.
fn hide(segments: &[&str], name: usize) -> String {
    let mut path = String::new();
    for (at, segment) in segments.iter().enumerate() {
        path.push('/');
        match segment.as_bytes().first() {
            Some(first) if at == name => path.extend([format!("%{first:02X}").as_str(), &segment[1..]]),
            _ => path.push_str(segment),
        }
    }
    path
}

impl Template {
    fn matches_exactly(&self, segments: &[&str]) -> bool {
        self.segments.len() == segments.len()
            && self
                .segments
                .iter()
                .zip(segments)
                .all(|(wanted, given)| if wanted.starts_with('{') { !given.is_empty() } else { wanted == given })
    }

    /// Where the name begins and ends when it spans more than one segment.
    fn span(&self, segments: &[&str]) -> Option<(usize, usize)> {
        let start = self.name?;
        let tail = self.segments.len() - start - 1;
        if segments.len() <= self.segments.len() {
            return None;
        }
        let end = segments.len() - tail;
        let same = |wanted: &[&str], given: &[&str]| {
            wanted.iter().zip(given).all(|(wanted, given)| wanted.starts_with('{') || wanted == given)
        };
        (same(&self.segments[..start], &segments[..start]) && same(&self.segments[start + 1..], &segments[end..]))
            .then_some((start, end))
    }
}

/// Go's `path.Clean` with the last slash kept, as dockerd's router does it by a redirect.
fn clean(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let mut cleaned = kept.iter().fold(String::with_capacity(path.len()), |cleaned, segment| cleaned + "/" + segment);
    if path.ends_with('/') || cleaned.is_empty() {
        cleaned.push('/');
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(method: Method, path: &str) -> String {
        let table = [
            (Method::GET, "/images/json"),
            (Method::GET, "/images/{name}/json"),
            (Method::DELETE, "/images/{name}"),
            (Method::POST, "/images/{name}/push"),
            (Method::GET, "/containers/{id}/json"),
            (Method::GET, "/containers/json"),
            (Method::DELETE, "/containers/{id}"),
            (Method::DELETE, "/containers/{id}/checkpoints/{checkpoint}"),
            (Method::GET, "/networks/"),
        ];
        Templates::new(table.into_iter()).fit(&method, path)
    }

    #[test]
    fn a_name_with_slashes_becomes_one_segment() {
        assert_eq!(fit(Method::GET, "/images/reg.io/a/b:tag/json"), "/images/reg.io%2Fa%2Fb:tag/json");
        assert_eq!(fit(Method::DELETE, "/images/a/json"), "/images/a%2Fjson");
        assert_eq!(fit(Method::POST, "/images/a/b/push"), "/images/a%2Fb/push");
    }

    #[test]
    fn plain_paths_stay_as_they_are() {
        assert_eq!(fit(Method::GET, "/images/json"), "/images/json");
        assert_eq!(fit(Method::GET, "/images/a%2Fb/json"), "/images/a%2Fb/json");
        assert_eq!(fit(Method::GET, "/networks/"), "/networks/");
        assert_eq!(fit(Method::GET, "/nosuch/path"), "/nosuch/path");
        assert_eq!(fit(Method::DELETE, "/containers/a/checkpoints/b"), "/containers/a/checkpoints/b");
    }

    #[test]
    fn a_name_that_is_a_word_of_another_route_is_a_name() {
        assert_eq!(fit(Method::DELETE, "/containers/json"), "/containers/%6Ason");
        assert_eq!(fit(Method::DELETE, "/images/json"), "/images/%6Ason");
        assert_eq!(fit(Method::GET, "/containers/json"), "/containers/json");
        assert_eq!(fit(Method::GET, "/containers/json/json"), "/containers/json/json");
        assert_eq!(fit(Method::DELETE, "/containers/web"), "/containers/web");
    }

    #[test]
    fn doubled_slashes_and_dots_are_cleaned() {
        assert_eq!(fit(Method::GET, "/containers//web/json"), "/containers/web/json");
        assert_eq!(fit(Method::GET, "/x/../images/./json"), "/images/json");
        assert_eq!(fit(Method::GET, "/../.."), "/");
    }
}
