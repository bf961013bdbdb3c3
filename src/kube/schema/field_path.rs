//! The path of a value inside an object, kept on the stack while a walk goes down: nothing is allocated until a
//! message needs the text.

#[derive(Clone, Copy, Debug)]
pub(super) enum Segment<'a> {
    Field(&'a str),
    Index(usize),
}

/// A path: its last step and the path before it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FieldPath<'a> {
    step: Option<(&'a FieldPath<'a>, Segment<'a>)>,
}

impl<'a> FieldPath<'a> {
    pub fn field(&'a self, name: &'a str) -> FieldPath<'a> {
        FieldPath { step: Some((self, Segment::Field(name))) }
    }

    pub fn index(&'a self, index: usize) -> FieldPath<'a> {
        FieldPath { step: Some((self, Segment::Index(index))) }
    }

    /// `spec.containers[0].image`.
    pub fn text(&self) -> String {
        let Some((parent, segment)) = self.step else { return String::new() };
        let front = parent.text();
        match segment {
            Segment::Index(index) => format!("{front}[{index}]"),
            Segment::Field(name) if front.is_empty() => name.to_owned(),
            Segment::Field(name) => format!("{front}.{name}"),
        }
    }

    /// `spec.containers.image`: fields only.
    pub fn fields_text(&self) -> String {
        let Some((parent, segment)) = self.step else { return String::new() };
        let front = parent.fields_text();
        match segment {
            Segment::Index(_) => front,
            Segment::Field(name) if front.is_empty() => name.to_owned(),
            Segment::Field(name) => format!("{front}.{name}"),
        }
    }
}
