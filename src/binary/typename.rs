//! Names of types put together from their descriptors, as the compiler does it
//! (src/cmd/compile/internal/types/fmt.go go1.19 to 1.27).

use super::rtype::{Descriptor, Descriptors, Method, Signature};
use crate::types::Kind;
use crate::value::push_go_string;
use crate::{Error, Result};
use std::borrow::Cow;

/// Types nested deeper than this are garbage.
const MAX_NEST: usize = 64;
/// Longer names are garbage too; those of generic types reach some thousand bytes.
const MAX_LEN: usize = 1 << 14;
/// `abi.ChanDir`: receive only, send only.
const RECEIVE: u64 = 1;
const SEND: u64 = 2;

/// How a named type tells its package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packages {
    /// By its name, as the runtime does.
    Name,
    /// By its import path, as DWARF does.
    Path,
}

/// A name with its import paths as they are written, not as symbols have them: the linker writes a dot of the last path
/// element, and what is not plain ASCII, as `%2e` (`objabi.PathToPrefix`, src/cmd/internal/objabi/path.go go1.19 to 1.27).
/// Tags of struct fields stay as they are.
pub fn plain_paths(name: &str) -> Cow<'_, str> {
    if !name.contains('%') {
        return Cow::Borrowed(name);
    }
    let bytes = name.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let (mut at, mut quoted, mut escaped) = (0, false, false);
    while let Some(&byte) = bytes.get(at) {
        quoted ^= byte == b'"' && !escaped;
        escaped = quoted && byte == b'\\' && !escaped;
        let digits = name.get(at + 1..at + 3).filter(|_| byte == b'%' && !quoted);
        let meant = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(meant.unwrap_or(byte));
        at += if meant.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).map_or(Cow::Borrowed(name), Cow::Owned)
}

/// The name of the type at `address`, from its parts.
pub(super) fn spell(descriptors: &Descriptors<'_>, address: u64, packages: Packages) -> Result<String> {
    let mut speller = Speller { descriptors, packages, out: String::new() };
    speller.ty(address, MAX_NEST)?;
    Ok(match packages {
        Packages::Name => speller.out,
        Packages::Path => plain_paths(&speller.out).into_owned(),
    })
}

struct Speller<'d> {
    descriptors: &'d Descriptors<'d>,
    packages: Packages,
    out: String,
}

impl Speller<'_> {
    fn ty(&mut self, address: u64, nest: usize) -> Result<()> {
        let garbage = || Error::Type(format!("the type descriptor at {address:#x} is nested without end"));
        // Every type writes something, so the length bounds the work too.
        let nest = nest.checked_sub(1).filter(|_| self.out.len() <= MAX_LEN).ok_or_else(garbage)?;
        let descriptor = self.descriptors.descriptor(address)?;
        if let Some(own) = self.declared_name(&descriptor)? {
            self.out.push_str(&own);
            return Ok(());
        }
        let word = |i: u64| self.descriptors.word(address, i);
        match descriptor.kind {
            Kind::Pointer => self.prefixed("*", word(0)?, nest),
            Kind::Slice => self.prefixed("[]", word(0)?, nest),
            Kind::Array => self.prefixed(&format!("[{}]", word(2)?), word(0)?, nest),
            Kind::Chan => self.channel(word(0)?, word(1)?, nest),
            Kind::Map => {
                let (key, elem) = (word(0)?, word(1)?);
                self.prefixed("map[", key, nest)?;
                self.prefixed("]", elem, nest)
            }
            Kind::Func => {
                self.out.push_str("func");
                self.signature(&self.descriptors.signature(&descriptor)?, nest)
            }
            Kind::Struct => self.structure(&descriptor, nest),
            Kind::Interface => self.interface(&descriptor, nest),
            kind => {
                self.out.push_str(&format!("{kind:?}").to_lowercase());
                Ok(())
            }
        }
    }

    /// The name of a type that was declared with one, or that the compiler made for itself.
    fn declared_name(&self, descriptor: &Descriptor) -> Result<Option<String>> {
        let Some(own) = self.descriptors.own_name(descriptor)? else { return Ok(None) };
        // `map.bucket[K]V` and `map.group[K]V` are structs of the compiler's own.
        let internal = descriptor.kind == Kind::Struct && !descriptor.named && !own.starts_with("struct {");
        if !descriptor.named && !internal {
            return Ok(None);
        }
        if self.packages == Packages::Name || internal {
            return Ok(Some(own));
        }
        let package = self.descriptors.package(descriptor)?;
        // The package's name can have a dot: `go.shape`.
        if own.strip_prefix(package.as_str()).is_some_and(|rest| rest.starts_with('.')) {
            return Ok(Some(own));
        }
        // A type argument in brackets has its import path already.
        let qualifier = own.find(['.', '[']).filter(|&at| own[at..].starts_with('.'));
        Ok(Some(match (package.is_empty(), qualifier) {
            (false, Some(dot)) => format!("{package}{}", &own[dot..]),
            _ => own,
        }))
    }

    fn prefixed(&mut self, prefix: &str, elem: u64, nest: usize) -> Result<()> {
        self.out.push_str(prefix);
        self.ty(elem, nest)
    }

    fn channel(&mut self, elem: u64, direction: u64, nest: usize) -> Result<()> {
        match direction {
            RECEIVE => return self.prefixed("<-chan ", elem, nest),
            SEND => self.out.push_str("chan<- "),
            _ => self.out.push_str("chan "),
        }
        let start = self.out.len();
        self.ty(elem, nest)?;
        // `chan <-chan T` would be read as `chan<- chan T`.
        if direction != SEND && self.out[start..].starts_with("<-") {
            self.out.insert(start, '(');
            self.out.push(')');
        }
        Ok(())
    }

    /// `(int, ...string) (bool, error)`.
    fn signature(&mut self, signature: &Signature, nest: usize) -> Result<()> {
        self.out.push('(');
        for (i, &parameter) in signature.parameters.iter().enumerate() {
            self.out.push_str(if i > 0 { ", " } else { "" });
            let last = i + 1 == signature.parameters.len();
            match signature.variadic && last {
                true => self.prefixed("...", self.descriptors.word(parameter, 0)?, nest)?,
                false => self.ty(parameter, nest)?,
            }
        }
        self.out.push(')');
        match &signature.results[..] {
            [] => Ok(()),
            &[only] => self.prefixed(" ", only, nest),
            several => {
                for (i, &result) in several.iter().enumerate() {
                    self.prefixed(if i > 0 { ", " } else { " (" }, result, nest)?;
                }
                self.out.push(')');
                Ok(())
            }
        }
    }

    /// `struct { A int; main.T; b string "tag" }`; DWARF has `main.b` there.
    fn structure(&mut self, descriptor: &Descriptor, nest: usize) -> Result<()> {
        self.out.push_str("struct {");
        let fields = self.descriptors.fields(descriptor.address)?;
        let package = match self.packages {
            Packages::Name => String::new(),
            Packages::Path => self.descriptors.package(descriptor)?,
        };
        for (i, field) in fields.iter().enumerate() {
            self.out.push_str(if i > 0 { "; " } else { " " });
            if !field.embedded {
                if !package.is_empty() && !is_exported(&field.name.text) {
                    self.out.push_str(&package);
                    self.out.push('.');
                }
                self.out.push_str(&field.name.text);
                self.out.push(' ');
            }
            self.ty(field.ty, nest)?;
            if !field.name.tag.is_empty() {
                let mut tag = Vec::new();
                push_go_string(&mut tag, field.name.tag.as_bytes());
                self.out.push(' ');
                self.out.push_str(&String::from_utf8_lossy(&tag));
            }
        }
        self.out.push_str(if fields.is_empty() { "}" } else { " }" });
        Ok(())
    }

    /// `interface { Read([]uint8) (int, error); main.hidden() }`.
    fn interface(&mut self, descriptor: &Descriptor, nest: usize) -> Result<()> {
        self.out.push_str("interface {");
        let methods = self.descriptors.interface_methods(descriptor.address)?;
        for (i, Method { name, ty, .. }) in methods.iter().enumerate() {
            self.out.push_str(if i > 0 { "; " } else { " " });
            if !is_exported(&name.text) {
                let package = match name.package.is_empty() {
                    true => self.descriptors.package(descriptor)?,
                    false => name.package.clone(),
                };
                let last = package.rsplit('/').next().unwrap_or_default();
                let package = if self.packages == Packages::Path { &package } else { last };
                self.out.push_str(package);
                self.out.push('.');
            }
            self.out.push_str(&name.text);
            if let Some(ty) = *ty {
                let signature = self.descriptors.signature(&self.descriptors.descriptor(ty)?)?;
                // A signature has no name of its own that would end a cycle.
                let nest = nest.checked_sub(1).ok_or_else(|| Error::Type("an interface nested without end".into()))?;
                self.signature(&signature, nest)?;
            }
        }
        self.out.push_str(if methods.is_empty() { "}" } else { " }" });
        Ok(())
    }
}

fn is_exported(name: &str) -> bool {
    name.starts_with(char::is_uppercase)
}

#[cfg(test)]
mod tests {
    use super::plain_paths;

    #[test]
    fn import_paths_as_they_are_written() {
        let plain = |name| plain_paths(name).into_owned();
        assert_eq!(plain("map[string]*gopkg.in/yaml%2ev3.Node"), "map[string]*gopkg.in/yaml.v3.Node");
        assert_eq!(plain("a/%e4%b8%96%25.T"), "a/世%.T");
        assert_eq!(plain(r#"struct { A a%2eb.T "x:\"%2e\"" }"#), r#"struct { A a.b.T "x:\"%2e\"" }"#);
        assert_eq!(plain("a%zz%2"), "a%zz%2");
        assert_eq!(plain("a%ff"), "a%ff");
    }
}
