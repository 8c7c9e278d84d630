//! Opcodes that compute on the stack alone.

use super::ScriptError;
use super::checker::SignatureChecker;
use super::eval::Interpreter;
use bitcoin::hashes::{Hash, hash160, ripemd160, sha1, sha256, sha256d};
use bitcoin::opcodes::Opcode;
use bitcoin::opcodes::all::*;

impl<C: SignatureChecker + ?Sized> Interpreter<'_, '_, C> {
    pub(super) fn execute_on_stack(&mut self, opcode: Opcode) -> Result<(), ScriptError> {
        match opcode {
            OP_2DROP => self.stack.drop(2),
            OP_2DUP => self.stack.copy(1, 2),
            OP_3DUP => self.stack.copy(2, 3),
            OP_2OVER => self.stack.copy(3, 2),
            OP_2ROT => self.stack.roll(5, 2),
            OP_2SWAP => self.stack.roll(3, 2),
            OP_IFDUP => {
                self.stack.require(1)?;
                if self.stack.top_is_true() { self.stack.copy(0, 1) } else { Ok(()) }
            }
            OP_DEPTH => {
                self.stack.push_number(self.stack.len() as i64);
                Ok(())
            }
            OP_DROP => self.stack.drop(1),
            OP_DUP => self.stack.copy(0, 1),
            OP_NIP => self.stack.remove(1),
            OP_OVER => self.stack.copy(1, 1),
            OP_PICK | OP_ROLL => self.pick_or_roll(opcode),
            OP_ROT => self.stack.roll(2, 1),
            OP_SWAP => self.stack.roll(1, 1),
            OP_TUCK => self.stack.tuck(1),
            OP_SIZE => {
                let size = self.stack.peek(0)?.len();
                self.stack.push_number(size as i64);
                Ok(())
            }
            OP_EQUAL | OP_EQUALVERIFY => {
                let equal = self.stack.peek(1)? == self.stack.peek(0)?;
                self.stack.drop(2)?;
                self.finish(equal, opcode == OP_EQUALVERIFY, ScriptError::EqualVerify)
            }
            OP_1ADD | OP_1SUB | OP_NEGATE | OP_ABS | OP_NOT | OP_0NOTEQUAL => self.unary(opcode),
            OP_ADD | OP_SUB | OP_MIN | OP_MAX => self.binary(opcode),
            OP_BOOLAND
            | OP_BOOLOR
            | OP_NUMEQUAL
            | OP_NUMEQUALVERIFY
            | OP_NUMNOTEQUAL
            | OP_LESSTHAN
            | OP_GREATERTHAN
            | OP_LESSTHANOREQUAL
            | OP_GREATERTHANOREQUAL => self.compare(opcode),
            OP_WITHIN => {
                self.stack.require(3)?;
                let value = self.stack.number(2, self.minimal)?;
                let minimum = self.stack.number(1, self.minimal)?;
                let maximum = self.stack.number(0, self.minimal)?;
                self.stack.drop(3)?;
                self.stack.push_bool((minimum..maximum).contains(&value));
                Ok(())
            }
            _ => Err(ScriptError::BadOpcode),
        }
    }

    /// Pushes a result, or for a -VERIFY opcode fails unless it is true.
    fn finish(&mut self, result: bool, verify: bool, error: ScriptError) -> Result<(), ScriptError> {
        if verify {
            self.verify(result, error)
        } else {
            self.stack.push_bool(result);
            Ok(())
        }
    }

    fn pick_or_roll(&mut self, opcode: Opcode) -> Result<(), ScriptError> {
        self.stack.require(2)?;
        let depth = self.stack.number(0, self.minimal)?;
        self.stack.drop(1)?;
        let depth = usize::try_from(depth).map_err(|_| ScriptError::InvalidStackOperation)?;
        if opcode == OP_PICK { self.stack.copy(depth, 1) } else { self.stack.roll(depth, 1) }
    }

    fn unary(&mut self, opcode: Opcode) -> Result<(), ScriptError> {
        let value = self.stack.number(0, self.minimal)?;
        let result = match opcode {
            OP_1ADD => value + 1,
            OP_1SUB => value - 1,
            OP_NEGATE => -value,
            OP_ABS => value.abs(),
            OP_NOT => i64::from(value == 0),
            _ => i64::from(value != 0),
        };
        self.stack.drop(1)?;
        self.stack.push_number(result);
        Ok(())
    }

    fn binary(&mut self, opcode: Opcode) -> Result<(), ScriptError> {
        let (first, second) = self.two_numbers()?;
        self.stack.push_number(match opcode {
            OP_ADD => first + second,
            OP_SUB => first - second,
            OP_MIN => first.min(second),
            _ => first.max(second),
        });
        Ok(())
    }

    fn compare(&mut self, opcode: Opcode) -> Result<(), ScriptError> {
        let (first, second) = self.two_numbers()?;
        let result = match opcode {
            OP_BOOLAND => first != 0 && second != 0,
            OP_BOOLOR => first != 0 || second != 0,
            OP_NUMNOTEQUAL => first != second,
            OP_LESSTHAN => first < second,
            OP_GREATERTHAN => first > second,
            OP_LESSTHANOREQUAL => first <= second,
            OP_GREATERTHANOREQUAL => first >= second,
            _ => first == second,
        };
        self.finish(result, opcode == OP_NUMEQUALVERIFY, ScriptError::NumEqualVerify)
    }

    fn two_numbers(&mut self) -> Result<(i64, i64), ScriptError> {
        self.stack.require(2)?;
        let numbers = (self.stack.number(1, self.minimal)?, self.stack.number(0, self.minimal)?);
        self.stack.drop(2)?;
        Ok(numbers)
    }

    pub(super) fn hash(&mut self, opcode: Opcode) -> Result<(), ScriptError> {
        let data = self.stack.pop()?;
        self.stack.push(match opcode {
            OP_RIPEMD160 => ripemd160::Hash::hash(&data).to_byte_array().to_vec(),
            OP_SHA1 => sha1::Hash::hash(&data).to_byte_array().to_vec(),
            OP_SHA256 => sha256::Hash::hash(&data).to_byte_array().to_vec(),
            OP_HASH160 => hash160::Hash::hash(&data).to_byte_array().to_vec(),
            _ => sha256d::Hash::hash(&data).to_byte_array().to_vec(),
        });
        Ok(())
    }
}
