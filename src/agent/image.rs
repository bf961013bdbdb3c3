//! Image names: `[registry/]path[:tag][@digest]`.

/// The longest name that registries take.
const NAME_BYTES_MAX: usize = 255;

/// The name with the tag `latest` if it has none. For a bare name an engine would pull every tag.
pub fn with_tag(image: &str) -> String {
    if has_tag(image) || image.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}

/// Whether the name's tag is one that moves by convention.
pub fn is_latest(image: &str) -> bool {
    !image.contains('@') && with_tag(image).ends_with(":latest")
}

/// A colon in the last part of the path begins a tag; one before it begins a registry's port.
fn has_tag(image: &str) -> bool {
    image.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

/// The registry that holds the image, `docker.io` unless the name says otherwise.
pub fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

/// Whether a registry could hold an image of that name.
pub fn is_valid(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if has_tag(name) => (path, Some(tag)),
        _ => (name, None),
    };
    let word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    let mut parts = path.split('/').peekable();
    if registry(path) != "docker.io" || path.starts_with("docker.io/") {
        parts.next();
    }
    path.len() <= NAME_BYTES_MAX
        && parts.peek().is_some()
        && parts.all(|part| word(part) && !part.contains(char::is_uppercase))
        && tag.is_none_or(|tag| word(tag) && tag.len() <= 128)
        && digest.is_none_or(|digest| digest.split_once(':').is_some_and(|(_, hex)| hex.len() >= 32 && word(hex)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_means_latest() {
        let table = [
            ("nginx", "nginx:latest", true),
            ("nginx:1.27", "nginx:1.27", false),
            ("localhost:5000/nginx", "localhost:5000/nginx:latest", true),
            ("localhost:5000/nginx:v1", "localhost:5000/nginx:v1", false),
            ("nginx@sha256:00", "nginx@sha256:00", false),
        ];
        for (image, full, latest) in table {
            assert_eq!((with_tag(image).as_str(), is_latest(image)), (full, latest), "{image}");
        }
    }

    #[test]
    fn registries_are_told_from_paths() {
        assert_eq!(registry("nginx"), "docker.io");
        assert_eq!(registry("library/nginx"), "docker.io");
        assert_eq!(registry("quay.io/a/b"), "quay.io");
        assert_eq!(registry("localhost:5000/nginx"), "localhost:5000");
    }

    #[test]
    fn names_no_registry_could_hold_are_invalid() {
        for good in ["nginx", "a/b_c:V1", "localhost:5000/nginx", "quay.io/x/y@sha256:0123456789abcdef0123456789abcdef"]
        {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "Nginx", "a//b", "nginx:", "nginx:a b", "-nginx", "nginx@sha256", "quay.io/"] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
