//! Running one script: Core's `EvalScript`.

use super::checker::{ExecutionData, SigVersion, SignatureChecker};
use super::code::{Reader, is_minimal_push};
use super::stack::{Conditions, Element, Stack};
use super::{
    MAX_OPS_PER_SCRIPT, MAX_SCRIPT_ELEMENT_SIZE, MAX_SCRIPT_SIZE, MAX_STACK_SIZE, ScriptError, ScriptFlags, ScriptNum,
};
use bitcoin::opcodes::Opcode;
use bitcoin::opcodes::all::*;

/// Runs `script` on `stack`. What it leaves there is for the caller to judge.
///
/// # Errors
/// The rule that the script breaks; the stack is then in the state of that moment.
pub fn eval_script<'a, C: SignatureChecker + ?Sized>(
    stack: &mut Stack<'a>,
    script: &'a [u8],
    flags: ScriptFlags,
    checker: &C,
    version: SigVersion,
    data: &mut ExecutionData,
) -> Result<(), ScriptError> {
    if version != SigVersion::Tapscript && script.len() > MAX_SCRIPT_SIZE {
        return Err(ScriptError::ScriptSize);
    }
    if let Some(spend) = &mut data.tapscript {
        spend.codeseparator_position = u32::MAX;
    }
    let minimal = flags.contains(ScriptFlags::MINIMALDATA);
    let conditions = Conditions::default();
    Interpreter {
        stack,
        altstack: Vec::new(),
        conditions,
        script,
        code_start: 0,
        op_count: 0,
        minimal,
        flags,
        version,
        checker,
        data,
    }
    .run()
}

/// A script in execution.
pub(super) struct Interpreter<'a, 's, C: ?Sized> {
    pub(super) stack: &'s mut Stack<'a>,
    altstack: Vec<Element<'a>>,
    conditions: Conditions,
    script: &'a [u8],
    /// Where the code that signatures commit to starts: after the last executed CODESEPARATOR.
    code_start: usize,
    pub(super) op_count: usize,
    /// Whether MINIMALDATA is set.
    pub(super) minimal: bool,
    pub(super) flags: ScriptFlags,
    pub(super) version: SigVersion,
    pub(super) checker: &'s C,
    pub(super) data: &'s mut ExecutionData,
}

impl<'a, C: SignatureChecker + ?Sized> Interpreter<'a, '_, C> {
    fn run(&mut self) -> Result<(), ScriptError> {
        let mut reader = Reader::new(self.script);
        let mut position: u32 = 0;
        while let Some(operation) = reader.next() {
            let (opcode, data) = operation.map_err(|_| ScriptError::BadOpcode)?;
            self.check_operation(opcode, data)?;
            let executing = self.conditions.all_true();
            if opcode.to_u8() <= OP_PUSHDATA4.to_u8() {
                if executing {
                    if self.minimal && !is_minimal_push(data, opcode) {
                        return Err(ScriptError::MinimalData);
                    }
                    self.stack.push(data);
                }
            } else if opcode == OP_CODESEPARATOR {
                if executing {
                    self.code_start = reader.position;
                    if let Some(spend) = &mut self.data.tapscript {
                        spend.codeseparator_position = position;
                    }
                }
            } else if executing || (OP_IF.to_u8()..=OP_ENDIF.to_u8()).contains(&opcode.to_u8()) {
                self.execute(opcode, executing)?;
            }
            if self.stack.len() + self.altstack.len() > MAX_STACK_SIZE {
                return Err(ScriptError::StackSize);
            }
            position += 1;
        }
        if self.conditions.is_empty() { Ok(()) } else { Err(ScriptError::UnbalancedConditional) }
    }

    /// The rules that hold in branches not taken as well.
    fn check_operation(&mut self, opcode: Opcode, data: &[u8]) -> Result<(), ScriptError> {
        if data.len() > MAX_SCRIPT_ELEMENT_SIZE {
            return Err(ScriptError::PushSize);
        }
        // RESERVED does not count.
        if opcode.to_u8() <= OP_PUSHNUM_16.to_u8() {
            return Ok(());
        }
        if self.version != SigVersion::Tapscript {
            self.count_operations(1)?;
        }
        match opcode {
            // CVE-2010-5137. In Tapscript they are OP_SUCCESSx and never get here.
            OP_CAT | OP_SUBSTR | OP_LEFT | OP_RIGHT | OP_INVERT | OP_AND | OP_OR | OP_XOR | OP_2MUL | OP_2DIV
            | OP_MUL | OP_DIV | OP_MOD | OP_LSHIFT | OP_RSHIFT => Err(ScriptError::DisabledOpcode),
            OP_CODESEPARATOR
                if self.version == SigVersion::Base && self.flags.contains(ScriptFlags::CONST_SCRIPTCODE) =>
            {
                Err(ScriptError::OpCodeSeparator)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn count_operations(&mut self, count: usize) -> Result<(), ScriptError> {
        self.op_count += count;
        if self.op_count > MAX_OPS_PER_SCRIPT { Err(ScriptError::OpCount) } else { Ok(()) }
    }

    /// The code that signatures of this script commit to.
    pub(super) fn script_code(&self) -> &'a [u8] {
        &self.script[self.code_start..]
    }

    fn execute(&mut self, opcode: Opcode, executing: bool) -> Result<(), ScriptError> {
        match opcode {
            OP_PUSHNUM_NEG1 => self.stack.push_number(-1),
            _ if (OP_PUSHNUM_1.to_u8()..=OP_PUSHNUM_16.to_u8()).contains(&opcode.to_u8()) => {
                const NUMBERS: &[u8; 16] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
                let index = usize::from(opcode.to_u8() - OP_PUSHNUM_1.to_u8());
                self.stack.push(&NUMBERS[index..=index]);
            }

            OP_NOP => {}
            OP_IF | OP_NOTIF => self.branch(opcode, executing)?,
            OP_ELSE => self.conditions.toggle_top()?,
            OP_ENDIF => self.conditions.pop()?,
            OP_VERIFY => self.verify_top(ScriptError::Verify)?,
            OP_RETURN => return Err(ScriptError::OpReturn),
            OP_CLTV => self.check_lock_time()?,
            OP_CSV => self.check_sequence()?,
            OP_NOP1 | OP_NOP4 | OP_NOP5 | OP_NOP6 | OP_NOP7 | OP_NOP8 | OP_NOP9 | OP_NOP10 => {
                if self.flags.contains(ScriptFlags::DISCOURAGE_UPGRADABLE_NOPS) {
                    return Err(ScriptError::DiscourageUpgradableNops);
                }
            }

            OP_TOALTSTACK => {
                let element = self.stack.pop()?;
                self.altstack.push(element);
            }
            OP_FROMALTSTACK => {
                let element = self.altstack.pop().ok_or(ScriptError::InvalidAltstackOperation)?;
                self.stack.push(element);
            }

            OP_RIPEMD160 | OP_SHA1 | OP_SHA256 | OP_HASH160 | OP_HASH256 => self.hash(opcode)?,
            OP_CHECKSIG => {
                let success = self.check_sig()?;
                self.stack.push_bool(success);
            }
            OP_CHECKSIGVERIFY => {
                let success = self.check_sig()?;
                self.verify(success, ScriptError::CheckSigVerify)?;
            }
            OP_CHECKSIGADD => self.check_sig_add()?,
            OP_CHECKMULTISIG => {
                let success = self.check_multisig()?;
                self.stack.push_bool(success);
            }
            OP_CHECKMULTISIGVERIFY => {
                let success = self.check_multisig()?;
                self.verify(success, ScriptError::CheckMultisigVerify)?;
            }
            _ => return self.execute_on_stack(opcode),
        }
        Ok(())
    }

    /// What a -VERIFY opcode does with its result. On failure Core leaves a false element, which nothing can observe.
    pub(super) fn verify(&self, success: bool, error: ScriptError) -> Result<(), ScriptError> {
        if success { Ok(()) } else { Err(error) }
    }

    fn verify_top(&mut self, error: ScriptError) -> Result<(), ScriptError> {
        self.stack.require(1)?;
        self.verify(self.stack.top_is_true(), error)?;
        self.stack.drop(1)
    }

    fn branch(&mut self, opcode: Opcode, executing: bool) -> Result<(), ScriptError> {
        let mut taken = false;
        if executing {
            let is_minimal = matches!(self.stack.peek(0)?, [] | [1]);
            match self.version {
                SigVersion::Tapscript if !is_minimal => return Err(ScriptError::TapscriptMinimalIf),
                SigVersion::WitnessV0 if !is_minimal && self.flags.contains(ScriptFlags::MINIMALIF) => {
                    return Err(ScriptError::MinimalIf);
                }
                _ => {}
            }
            taken = self.stack.top_is_true() == (opcode == OP_IF);
            self.stack.drop(1)?;
        }
        self.conditions.push(taken);
        Ok(())
    }

    /// BIP 65. Operands have up to five bytes, since lock times go beyond 2^31.
    fn check_lock_time(&mut self) -> Result<(), ScriptError> {
        if !self.flags.contains(ScriptFlags::CHECKLOCKTIMEVERIFY) {
            return Ok(());
        }
        let lock_time = ScriptNum::decode(self.stack.peek(0)?, self.minimal, ScriptNum::MAX_LOCK_TIME_SIZE)?;
        if lock_time.0 < 0 {
            return Err(ScriptError::NegativeLockTime);
        }
        self.verify(self.checker.check_lock_time(lock_time), ScriptError::UnsatisfiedLockTime)
    }

    /// BIP 112.
    fn check_sequence(&mut self) -> Result<(), ScriptError> {
        const DISABLED: i64 = 1 << 31;
        if !self.flags.contains(ScriptFlags::CHECKSEQUENCEVERIFY) {
            return Ok(());
        }
        let sequence = ScriptNum::decode(self.stack.peek(0)?, self.minimal, ScriptNum::MAX_LOCK_TIME_SIZE)?;
        if sequence.0 < 0 {
            return Err(ScriptError::NegativeLockTime);
        }
        if sequence.0 & DISABLED != 0 {
            return Ok(());
        }
        self.verify(self.checker.check_sequence(sequence), ScriptError::UnsatisfiedLockTime)
    }
}
