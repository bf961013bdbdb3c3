//! The files of `src/` and what each takes from which: module paths are resolved to files, through the re-exports of a
//! room's `mod.rs`, and through the names under which a file imports modules.
//!
//! Left out are test code, re-exports themselves (a `mod.rs` that shows what a file holds does not stand on it), and
//! paths inside macro calls.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree, Visibility};

/// Names from the root of the crate, such as `["store", "mvcc", "index"]`.
type Names = Vec<String>;

/// File -> the files it takes something from, each relative to `src/`.
pub type Imports = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

struct Module {
    file: PathBuf,
    items: Vec<Item>,
    /// Name -> what a `pub use` of this module shows under it.
    shown: BTreeMap<String, Names>,
}

/// What each of `paths` takes from the others; `source` is the folder with `lib.rs`.
pub fn imports(source: &Path, paths: &[PathBuf]) -> Imports {
    let modules: BTreeMap<Names, Module> = paths.iter().map(|path| read(source, path)).collect();
    let mut imports = Imports::new();
    for (name, module) in &modules {
        let mut reader = Reader { modules: &modules, here: name, known: BTreeMap::new(), found: BTreeSet::new() };
        reader.read(&module.items);
        reader.found.remove(&module.file);
        imports.insert(module.file.clone(), reader.found);
    }
    imports
}

fn read(source: &Path, path: &Path) -> (Names, Module) {
    let file = path.strip_prefix(source).expect("a file below src").to_owned();
    let mut name: Names = file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if matches!(name.last().map(String::as_str), Some("mod" | "lib")) {
        name.pop();
    }
    let text = fs::read_to_string(path).expect("a source file is text");
    let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let items: Vec<Item> = parsed.items.into_iter().filter(|item| !is_test(attributes(item))).collect();
    let mut shown = BTreeMap::new();
    for item in &items {
        if let Item::Use(item) = item
            && !matches!(item.vis, Visibility::Inherited)
        {
            shown.extend(leaves(&item.tree).into_iter().map(|leaf| (leaf.alias, leaf.path)));
        }
    }
    (name, Module { file, items, shown })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

/// One name that a `use` brings, with the path it stands for.
struct Leaf {
    alias: String,
    path: Names,
}

fn leaves(tree: &UseTree) -> Vec<Leaf> {
    fn walk(tree: &UseTree, before: &mut Names, found: &mut Vec<Leaf>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                walk(&path.tree, before, found);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| walk(tree, before, found)),
            UseTree::Name(name) if name.ident == "self" => {
                let alias = before.last().cloned().unwrap_or_default();
                found.push(Leaf { alias, path: before.clone() });
            }
            UseTree::Name(name) => {
                let path = [before.as_slice(), &[name.ident.to_string()]].concat();
                found.push(Leaf { alias: name.ident.to_string(), path });
            }
            UseTree::Rename(name) => {
                let path = [before.as_slice(), &[name.ident.to_string()]].concat();
                found.push(Leaf { alias: name.rename.to_string(), path });
            }
            UseTree::Glob(_) => {
                found.push(Leaf { alias: "*".to_owned(), path: [before.as_slice(), &["*".to_owned()]].concat() });
            }
        }
    }
    let mut found = Vec::new();
    walk(tree, &mut Vec::new(), &mut found);
    found
}

struct Reader<'a> {
    modules: &'a BTreeMap<Names, Module>,
    here: &'a Names,
    /// Name -> the module that this file knows by it.
    known: BTreeMap<String, Names>,
    found: BTreeSet<PathBuf>,
}

impl Reader<'_> {
    fn read(&mut self, items: &[Item]) {
        for item in items {
            if let Item::Use(item) = item
                && matches!(item.vis, Visibility::Inherited)
            {
                leaves(&item.tree).into_iter().for_each(|leaf| self.import(leaf));
            }
        }
        for item in items.iter().filter(|item| !matches!(item, Item::Use(_))) {
            self.visit_item(item);
        }
    }

    fn import(&mut self, leaf: Leaf) {
        let Some(path) = absolute(self.here, &leaf.path, self.modules) else { return };
        match self.modules.contains_key(&path) {
            true => {
                self.known.insert(leaf.alias, path);
            }
            false => self.take(path),
        }
    }

    /// Notes the file that declares what stands at `path`.
    fn take(&mut self, mut path: Names) {
        // A chain of re-exports is short; a circle of them would not compile.
        for _ in 0..8 {
            let Some(depth) = (0..path.len()).rev().find(|&depth| self.modules.contains_key(&path[..depth])) else {
                return;
            };
            let (owner, rest) = path.split_at(depth);
            let module = &self.modules[owner];
            let Some(shown) = rest.first().and_then(|name| module.shown.get(name)) else {
                if depth > 0 {
                    self.found.insert(module.file.clone());
                }
                return;
            };
            let Some(target) = absolute(&owner.to_vec(), shown, self.modules) else { return };
            path = [target.as_slice(), &rest[1..]].concat();
            if self.modules.contains_key(&path) {
                return;
            }
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        leaves(&item.tree).into_iter().for_each(|leaf| self.import(leaf));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if names.len() > 1 {
            let whole = match self.known.get(&names[0]) {
                Some(module) => Some([module.as_slice(), &names[1..]].concat()),
                None => absolute(self.here, &names, self.modules),
            };
            if let Some(whole) = whole.filter(|whole| !self.modules.contains_key(whole)) {
                self.take(whole);
            }
        }
        visit::visit_path(self, path);
    }
}

/// `names` as seen from module `here`, from the root of the crate; nothing for what belongs to another crate.
fn absolute(here: &Names, names: &[String], modules: &BTreeMap<Names, Module>) -> Option<Names> {
    let mut at = here.clone();
    match names.first()?.as_str() {
        "crate" => return Some(names[1..].to_vec()),
        "self" => return Some([at.as_slice(), &names[1..]].concat()),
        "super" => {
            let up = names.iter().take_while(|name| *name == "super").count();
            at.truncate(at.len().checked_sub(up)?);
            return Some([at.as_slice(), &names[up..]].concat());
        }
        _ => (),
    }
    let child = [at.as_slice(), &names[..1]].concat();
    modules.contains_key(&child).then(|| [at.as_slice(), names].concat())
}
