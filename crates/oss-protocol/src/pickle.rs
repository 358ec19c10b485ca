//! A look at a pickle before it is unpickled: whether its memory and time are in proportion to its length.
//!
//! Unpickling is done by Python, with a table of names that a pickle may use. That table does not help against a memo
//! with four billion entries, or against keys whose hash takes as long as the universe exists: a tuple of a tuple twice,
//! of a tuple twice, and so on. So this follows the stack of values, and knows of each only how much it holds.
//!
//! The operations are those of the module `pickletools`, as far as a pickler writes them for protocols 2 to 5.

/// The most values that a key of a dictionary, or an element of a set, may hold. The key of an item holds its name, and
/// a number for each dimension of its tensor.
const LARGEST_KEY: u32 = 1000;

/// The most values that the arguments and states of all calls may hold, for each byte of the pickle. A call may copy them.
const LARGEST_COPIES: u64 = 16;

/// Names whose calls return what all of Python shares: the members of enumerations, and layouts.
const GIVE_SHARED: [&[u8]; 4] = [b"getattr", b"_get_layout", b"_MEM_FORMAT_ENCODING", b"MEM_FORMAT_ENCODING"];

/// Places in the table of values: the one that stands for every number, text and name, and the one for those names.
const SIMPLE: usize = 0;
const GIVES_SHARED: usize = 1;

/// What is known of a value.
#[derive(Clone, Copy, Debug, Default)]
struct Value {
    /// How many values it holds, itself included; a value that is held twice counts twice.
    weight: u32,
    /// Whether it is an instance of a class, so that it may get a state.
    instance: bool,
    /// Whether another value holds it already.
    held: bool,
}

/// The stack of the unpickler.
struct Machine<'pickle> {
    rest: &'pickle [u8],
    /// All containers and instances, after `SIMPLE` and `GIVES_SHARED`.
    values: Vec<Value>,
    stack: Vec<usize>,
    /// Lengths of the stack at its marks.
    marks: Vec<usize>,
    memo: Vec<usize>,
    /// How many more values calls may copy.
    copies_left: u64,
}

/// Returns why a pickle should not be unpickled, if there is a reason.
pub fn problem_of(pickle: &[u8]) -> Option<String> {
    let simple = Value { weight: 1, ..Value::default() };
    let mut machine = Machine {
        rest: pickle,
        values: vec![simple; 2],
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        copies_left: LARGEST_COPIES * pickle.len() as u64,
    };
    loop {
        match machine.step() {
            Ok(true) => {}
            Ok(false) => return None,
            Err(problem) => return Some(problem),
        }
    }
}

fn short() -> String {
    "it is cut short".to_owned()
}

fn unbalanced() -> String {
    "it takes more values than it made".to_owned()
}

/// The place of a name, or of a text that may become one.
fn named(name: &[u8]) -> usize {
    if GIVE_SHARED.contains(&name) { GIVES_SHARED } else { SIMPLE }
}

impl<'pickle> Machine<'pickle> {
    /// Follows one operation; returns whether there are more.
    fn step(&mut self) -> Result<bool, String> {
        match self.byte()? {
            // PROTO, FRAME: nothing for the stack.
            0x80 => self.skip(1)?,
            0x95 => self.skip(8)?,
            b'.' => return Ok(false),
            b'(' => self.marks.push(self.stack.len()),
            // None, True, False, and numbers of a fixed length.
            b'N' | 0x88 | 0x89 => self.stack.push(SIMPLE),
            b'K' => self.simple(1)?,
            b'M' => self.simple(2)?,
            b'J' => self.simple(4)?,
            b'G' => self.simple(8)?,
            // Long numbers, texts and bytes, after their lengths of one, four or eight bytes.
            0x8a | 0x8c | b'C' | b'U' => self.counted(1)?,
            0x8b | b'X' | b'B' | b'T' => self.counted(4)?,
            0x8d | 0x8e => self.counted(8)?,
            // A name in two lines, or from two texts.
            b'c' => {
                self.line()?;
                let name = self.line()?;
                self.stack.push(named(name));
            }
            0x93 => {
                let name = self.pop()?;
                self.pop()?;
                self.stack.push(if name == GIVES_SHARED { GIVES_SHARED } else { SIMPLE });
            }
            // Empty containers.
            b']' | b'}' | b')' | 0x8f => self.make(0, false),
            // Tuples, and lists, dictionaries and frozen sets from the mark.
            size @ 0x85..=0x87 => {
                let weight = self.take(usize::from(size - 0x84))?;
                self.make(weight, false);
            }
            b't' | b'l' => {
                let weight = self.take_marked()?;
                self.make(weight, false);
            }
            b'd' => {
                self.check_keys(2)?;
                let weight = self.take_marked()?;
                self.make(weight, false);
            }
            0x91 => {
                self.check_keys(1)?;
                let weight = self.take_marked()?;
                self.make(weight, false);
            }
            // Additions to containers.
            b'a' => self.add(1)?,
            b's' => {
                let key = self.stack.len().checked_sub(2).ok_or_else(unbalanced)?;
                self.check_key(self.stack[key])?;
                self.add(2)?;
            }
            b'e' => self.add_marked()?,
            b'u' => {
                self.check_keys(2)?;
                self.add_marked()?;
            }
            0x90 => {
                self.check_keys(1)?;
                self.add_marked()?;
            }
            // Calls and instances, with their arguments.
            b'R' | 0x81 => self.call(2)?,
            0x92 => self.call(3)?,
            b'b' => {
                let weight = self.take(1)?;
                self.copy(weight)?;
                let instance = *self.stack.last().ok_or_else(unbalanced)?;
                let value = &mut self.values[instance];
                if !value.instance || value.held {
                    return Err("it changes a class, or an object that others hold".to_owned());
                }
                value.weight = value.weight.saturating_add(weight);
            }
            // The memo.
            0x94 => self.remember(self.memo.len())?,
            b'q' => {
                let index = self.number(1)?;
                self.remember(index)?;
            }
            b'r' => {
                let index = self.number(4)?;
                self.remember(index)?;
            }
            b'h' => {
                let index = self.number(1)?;
                self.recall(index)?;
            }
            b'j' => {
                let index = self.number(4)?;
                self.recall(index)?;
            }
            other => return Err(format!("it has the operation {other:#04x}, which no pickler writes for metadata")),
        }
        Ok(true)
    }

    fn byte(&mut self) -> Result<u8, String> {
        let (byte, rest) = self.rest.split_first().ok_or_else(short)?;
        self.rest = rest;
        Ok(*byte)
    }

    fn number(&mut self, bytes: usize) -> Result<usize, String> {
        let (number, rest) = self.rest.split_at_checked(bytes).ok_or_else(short)?;
        self.rest = rest;
        let number = number.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        usize::try_from(number).map_err(|_| short())
    }

    fn skip(&mut self, bytes: usize) -> Result<(), String> {
        self.rest = self.rest.get(bytes..).ok_or_else(short)?;
        Ok(())
    }

    fn line(&mut self) -> Result<&'pickle [u8], String> {
        let end = self.rest.iter().position(|byte| *byte == b'\n').ok_or_else(short)?;
        let (line, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        Ok(line)
    }

    fn simple(&mut self, bytes: usize) -> Result<(), String> {
        let (content, rest) = self.rest.split_at_checked(bytes).ok_or_else(short)?;
        self.rest = rest;
        self.stack.push(named(content));
        Ok(())
    }

    fn counted(&mut self, bytes: usize) -> Result<(), String> {
        let length = self.number(bytes)?;
        self.simple(length)
    }

    /// Calls a function or a class with arguments, which it may copy.
    fn call(&mut self, count: usize) -> Result<(), String> {
        let function = self.stack.len().checked_sub(count).ok_or_else(unbalanced)?;
        let gives_shared = self.stack[function] == GIVES_SHARED;
        let weight = self.take(count)?;
        self.copy(weight)?;
        self.make(weight, !gives_shared);
        Ok(())
    }

    fn copy(&mut self, weight: u32) -> Result<(), String> {
        let left = self.copies_left.checked_sub(u64::from(weight));
        self.copies_left = left.ok_or("its calls copy more values than its length explains")?;
        Ok(())
    }

    /// Makes a value that holds others of this weight.
    fn make(&mut self, weight: u32, instance: bool) {
        self.stack.push(self.values.len());
        self.values.push(Value { weight: weight.saturating_add(1), instance, held: false });
    }

    /// The first value above the last mark.
    fn marked(&self) -> Result<usize, String> {
        self.marks.last().copied().ok_or_else(unbalanced)
    }

    /// Takes one value, from above the last mark.
    fn pop(&mut self) -> Result<usize, String> {
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return Err(unbalanced());
        }
        self.stack.pop().ok_or_else(unbalanced)
    }

    /// Takes values for another one to hold; returns their weight.
    fn take(&mut self, count: usize) -> Result<u32, String> {
        let mut weight = 0_u32;
        for _ in 0..count {
            let value = self.pop()?;
            // Those are not one value each.
            self.values[value].held = value > GIVES_SHARED;
            weight = weight.saturating_add(self.values[value].weight);
        }
        Ok(weight)
    }

    fn take_marked(&mut self) -> Result<u32, String> {
        let count = self.stack.len() - self.marked()?;
        let weight = self.take(count)?;
        self.marks.pop();
        Ok(weight)
    }

    fn add(&mut self, count: usize) -> Result<(), String> {
        let weight = self.take(count)?;
        self.grow(weight)
    }

    fn add_marked(&mut self) -> Result<(), String> {
        let weight = self.take_marked()?;
        self.grow(weight)
    }

    fn grow(&mut self, weight: u32) -> Result<(), String> {
        let container = *self.stack.last().ok_or_else(unbalanced)?;
        if container <= GIVES_SHARED {
            return Err("it adds to something that is no container".to_owned());
        }
        let value = &mut self.values[container];
        if value.held {
            // Those would weigh more than is known of them.
            return Err("it adds to a container that others hold".to_owned());
        }
        value.weight = value.weight.saturating_add(weight);
        Ok(())
    }

    /// Checks each value above the mark that is a key, if every `stride`th one is.
    fn check_keys(&self, stride: usize) -> Result<(), String> {
        self.stack[self.marked()?..].iter().step_by(stride).try_for_each(|key| self.check_key(*key))
    }

    fn check_key(&self, key: usize) -> Result<(), String> {
        if self.values[key].weight > LARGEST_KEY {
            return Err(format!("it has a key that holds more than {LARGEST_KEY} values"));
        }
        Ok(())
    }

    fn remember(&mut self, index: usize) -> Result<(), String> {
        let value = *self.stack.last().ok_or_else(unbalanced)?;
        let known = self.memo.len();
        match self.memo.get_mut(index) {
            Some(value_before) => *value_before = value,
            None if index == known => self.memo.push(value),
            None => return Err(format!("it numbers a value {index} when it has numbered {known}")),
        }
        Ok(())
    }

    fn recall(&mut self, index: usize) -> Result<(), String> {
        let value =
            self.memo.get(index).ok_or_else(|| format!("it recalls a value {index} that it has not numbered"))?;
        self.stack.push(*value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::problem_of;

    #[test]
    fn what_a_pickler_writes_is_no_problem() {
        // pickle.dumps({"a": (1, [2.5, None]), (3, "b"): {4}}, 4)
        let plain: &[u8] =
            b"\x80\x04\x95/\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94K\x01]\x94(G@\x04\x00\x00\x00\x00\x00\
            \x00Ne\x86\x94K\x03\x8c\x01b\x94\x86\x94\x8f\x94(K\x04\x90u.";
        assert_eq!(problem_of(plain), None);
        assert_eq!(problem_of(b"N."), None);
    }

    #[test]
    fn memory_and_time_are_in_proportion_to_the_length() {
        for (pickle, problem) in [
            (&b"Nr\xff\xff\xff\xff."[..], "numbers a value 4294967295"),
            (b"X\xff\xff\xff\x7fabc", "cut short"),
            (b"\x8e\xff\xff\xff\xff\xff\xff\xff\xffabc", "cut short"),
            (b"\x96\x01\x00\x00\x00\x00\x00\x00\x00a.", "0x96"),
            (b"R.", "more values than it made"),
            (b"t.", "more values than it made"),
            (b"N(Nu.", "no container"),
            (b"ca\nb\nN}b.", "changes a class"),
            (b"", "cut short"),
        ] {
            let found = problem_of(pickle).unwrap_or_default();
            assert!(found.contains(problem), "{pickle:?}: {found}");
        }
    }

    #[test]
    fn calls_copy_no_more_than_the_length_explains() {
        for operation in [&b"ca\nb\nh\0\x85R"[..], b"ca\nb\nh\0\x85\x81", b"ca\nb\n)\x81h\0b", b"ca\nb\n)h\0\x92"] {
            let once = [&b"](("[..], &[b'N'; 5000], b"t\x94", operation, b"e."].concat();
            assert_eq!(problem_of(&once), None);
            let often = [&b"](("[..], &[b'N'; 5000], b"t\x94", &operation.repeat(100), b"e."].concat();
            assert!(problem_of(&often).unwrap_or_default().contains("copy more values"), "{operation:?}");
        }
        // The list weighs little when the tuple takes it.
        let later = [&b"](]\x94\x85\x94h\0("[..], &[b'N'; 5000], b"e", &b"ca\nb\nh\x01R".repeat(100), b"e."].concat();
        assert!(problem_of(&later).unwrap_or_default().contains("others hold"));
    }

    #[test]
    fn what_all_of_python_shares_gets_no_state() {
        for made in [
            &b"cbuiltins\ngetattr\n)R"[..],
            b"ctorch.distributed.checkpoint.metadata\n_MEM_FORMAT_ENCODING\n)R",
            b"ctorch.distributed.checkpoint.metadata\n_MEM_FORMAT_ENCODING\n)\x81",
            b"\x8c\x08builtins\x8c\x07getattr\x94\x93\x94)R",
        ] {
            let changed = [made, b"}b."].concat();
            let problem = problem_of(&changed).unwrap_or_default();
            assert!(problem.contains("changes a class"), "{made:?}: {problem}");
        }
    }

    #[test]
    fn a_key_holds_few_values() {
        // A pair of a pair of a pair: its hash takes 2^64 steps.
        let mut pickle = b"})\x94".to_vec();
        for number in 0..64 {
            pickle.extend([b'h', number, b'h', number, b'\x86', b'\x94']);
        }
        pickle.extend(b"Ns.");
        assert!(problem_of(&pickle).unwrap_or_default().contains("more than 1000 values"));
        let deep = [&b"}("[..], b")", &[0x85; 5000], b"Nu."].concat();
        assert!(problem_of(&deep).unwrap_or_default().contains("more than 1000 values"));
    }
}
