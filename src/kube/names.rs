//! Names: which are well formed, and how they are generated.

/// The characters of generated suffixes: no vowels and nothing that looks like one.
const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
/// A generated base is cut so that the whole name still is a label.
const GENERATED_BASE_MAX: usize = 63 - SUFFIX_LENGTH;
/// How often a create whose generated name is taken is tried with another one.
pub const GENERATE_ATTEMPTS_MAX: usize = 8;

const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
     start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
     '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035_RULE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
     alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
     validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_NAME_RULE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start \
     and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
     '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
     used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// The rules of a kind's names: returns the texts of those that a name breaks. The second argument is true for the
/// prefix of a generated name.
pub type NameRule = fn(&str, bool) -> Vec<String>;

/// `base` with five characters picked by `random`, called once a character with the exclusive bound.
pub fn generate(base: &str, mut random: impl FnMut(u64) -> u64) -> String {
    let mut cut = base.len().min(GENERATED_BASE_MAX);
    while !base.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut name = base[..cut].to_owned();
    for _ in 0..SUFFIX_LENGTH {
        let place = random(SUFFIX_ALPHABET.len() as u64) as usize % SUFFIX_ALPHABET.len();
        name.push(char::from(SUFFIX_ALPHABET[place]));
    }
    name
}

fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(|&byte| is_lower_alphanumeric(byte));
    ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|&byte| is_lower_alphanumeric(byte) || byte == b'-')
}

/// The name before a suffix is added: what is checked of `generateName`, where a dash at the end is fine.
fn masked(name: &str, is_prefix: bool) -> String {
    match name.strip_suffix('-') {
        Some(front) if is_prefix && name.len() > 1 => format!("{front}a"),
        _ => name.to_owned(),
    }
}

/// The rules of an RFC 1123 label that `name` breaks. With `is_prefix` it is the front of a generated name.
pub fn dns_label(name: &str, is_prefix: bool) -> Vec<String> {
    let name = masked(name, is_prefix);
    let mut broken = Vec::new();
    if name.len() > 63 {
        broken.push(too_long(63));
    }
    if !is_label(&name) {
        broken.push(LABEL_RULE.to_owned());
    }
    broken
}

/// The rules of an RFC 1123 subdomain that `name` breaks.
pub fn dns_subdomain(name: &str, is_prefix: bool) -> Vec<String> {
    let name = masked(name, is_prefix);
    let mut broken = Vec::new();
    if name.len() > 253 {
        broken.push(too_long(253));
    }
    if !name.split('.').all(is_label) {
        broken.push(SUBDOMAIN_RULE.to_owned());
    }
    broken
}

/// The rules of an RFC 1035 label (service names) that `name` breaks.
pub fn dns_1035_label(name: &str, is_prefix: bool) -> Vec<String> {
    let name = masked(name, is_prefix);
    let mut broken = Vec::new();
    if name.len() > 63 {
        broken.push(too_long(63));
    }
    if !is_label(&name) || !name.as_bytes().first().is_some_and(u8::is_ascii_lowercase) {
        broken.push(LABEL_1035_RULE.to_owned());
    }
    broken
}

/// The rules of a name that need only fit in a path (names of roles).
pub fn path_segment(name: &str, is_prefix: bool) -> Vec<String> {
    if !is_prefix && (name == "." || name == "..") {
        return vec![format!("may not be '{name}'")];
    }
    let broken = ["/", "%"].into_iter().filter(|bad| name.contains(bad));
    broken.map(|bad| format!("may not contain '{bad}'")).collect()
}

fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(inside)
}

/// The rules of a qualified name, `name` or `prefix/name` (keys of labels and annotations), that `text` breaks.
pub fn qualified_name(text: &str) -> Vec<String> {
    let (prefix, name) = match text.split('/').collect::<Vec<_>>()[..] {
        [name] => (None, name),
        [prefix, name] => (Some(prefix), name),
        _ => {
            return vec![format!(
                "a qualified name {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                QUALIFIED_NAME_RULE.trim_start_matches("name part ")
            )];
        }
    };
    let mut broken = Vec::new();
    match prefix {
        Some("") => broken.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => {
            broken.extend(dns_subdomain(prefix, false).into_iter().map(|rule| format!("prefix part {rule}")))
        }
        None => {}
    }
    match name.len() {
        0 => broken.push("name part must be non-empty".to_owned()),
        64.. => broken.push(format!("name part {}", too_long(63))),
        _ => {}
    }
    if !is_qualified_part(name) {
        broken.push(QUALIFIED_NAME_RULE.to_owned());
    }
    broken
}

/// The rules of a label's value that `text` breaks.
pub fn label_value(text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if text.len() > 63 {
        broken.push(too_long(63));
    }
    if !text.is_empty() && !is_qualified_part(text) {
        broken.push(LABEL_VALUE_RULE.to_owned());
    }
    broken
}

/// The rules of a port's name (an IANA service name) that `text` breaks.
pub fn port_name(text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if text.len() > 15 {
        broken.push("must be no more than 15 characters".to_owned());
    }
    if !text.bytes().all(|byte| is_lower_alphanumeric(byte) || byte == b'-') {
        broken.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        broken.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        broken.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        broken.push("must not begin or end with a hyphen".to_owned());
    }
    broken
}

/// The rules of an environment variable's name that `text` breaks: any printable ASCII but `=`.
pub fn environment_name(text: &str) -> Vec<String> {
    if !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=') {
        return Vec::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned()]
}

/// The rules of a key in a ConfigMap or Secret that `text` breaks.
pub fn config_key(text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if text.len() > 253 {
        broken.push(too_long(253));
    }
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        broken.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
             'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .to_owned(),
        );
    }
    match text {
        "." => broken.push("must not be '.'".to_owned()),
        ".." => broken.push("must not be '..'".to_owned()),
        _ if text.starts_with("..") => broken.push("must not start with '..'".to_owned()),
        _ => {}
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_subdomains() {
        for good in ["a", "0", "a-b", "a1", &"x".repeat(63)] {
            assert_eq!(dns_label(good, false), Vec::<String>::new(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b"] {
            assert_eq!(dns_label(bad, false), [LABEL_RULE], "{bad}");
        }
        assert_eq!(dns_label(&"x".repeat(64), false), ["must be no more than 63 bytes"]);
        assert!(dns_subdomain("a.b-c.d", false).is_empty());
        for bad in ["a..b", ".a", "a.", "a.-b"] {
            assert_eq!(dns_subdomain(bad, false), [SUBDOMAIN_RULE], "{bad}");
        }
        assert!(dns_subdomain("web-", true).is_empty());
        assert_eq!(dns_1035_label("1a", false), [LABEL_1035_RULE]);
    }

    #[test]
    fn keys_and_values_of_labels() {
        for good in ["app", "app.kubernetes.io/name", "a/B_c", "x-y.z"] {
            assert!(qualified_name(good).is_empty(), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "-a", "UP.x/a"] {
            assert!(!qualified_name(bad).is_empty(), "{bad}");
        }
        assert!(label_value("").is_empty());
        assert_eq!(label_value("a b"), [LABEL_VALUE_RULE]);
    }

    #[test]
    fn generated_names_are_labels() {
        let mut next = 0;
        let mut random = |bound: u64| {
            next += 7;
            next % bound
        };
        let name = generate("web-", &mut random);
        assert_eq!(name.len(), 9);
        assert!(dns_label(&name, false).is_empty());
        assert_eq!(generate(&"é".repeat(40), &mut random).len(), 63);
        assert_eq!(generate(&"x".repeat(100), random).len(), 63);
    }
}
