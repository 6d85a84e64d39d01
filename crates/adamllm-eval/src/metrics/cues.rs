//! The words that tell a declared answer from one that is merely mentioned. All in the spelling of
//! [`folded`](super::fold::folded); a character of Chinese, Japanese or Korean is a word.

/// A noun or verb that an answer follows: *the answer is B*, *I choose B*. `before` is the word before it.
pub(super) fn announces(word: &str, before: &str) -> bool {
    match word {
        "answer" | "ans" | "correct" | "choose" | "chose" | "choosing" | "pick" | "select" | "selected" | "boxed"
        | "respuesta" | "correcta" | "reponse" | "antwort" | "resposta" | "risposta" | "ответ" => true,
        "with" => matches!(before, "go" | "going" | "went"),
        "案" | "え" => before == "答",
        "答" | "选" | "選" | "답" => true,
        "择" | "擇" => matches!(before, "选" | "選"),
        "解" => before == "正",
        _ => false,
    }
}

/// A noun for the answer itself, whatever its kind: *the answer is the left lung*. `before` is the word before it.
pub(super) fn is_answer(word: &str, before: &str) -> bool {
    match word {
        "answer" | "ans" | "respuesta" | "reponse" | "antwort" | "resposta" | "risposta" | "ответ" => true,
        "案" | "え" => before == "答",
        "解" => before == "正",
        _ => word == "답",
    }
}

/// A word that makes an announcement the last one.
pub(super) fn is_final(word: &str) -> bool {
    matches!(word, "final" | "finally" | "ultimate" | "ultimately" | "boxed" | "终" | "終")
}

/// A noun or verb that says that a letter is an option's, not that it is the answer.
pub(super) fn names_option(word: &str) -> bool {
    matches!(
        word,
        "option" | "choice" | "letter" | "alternative" | "opcion" | "say" | "guess" | "think" | "believe" | "项" | "項"
    )
}

/// A word after which the answer follows: *so B*, *therefore, it is B*.
pub(super) fn concludes(word: &str) -> bool {
    matches!(word, "so" | "therefore" | "thus" | "hence" | "conclusion" | "所" | "故" | "此" | "以")
}

/// A word that takes back what was said before it.
pub(super) fn corrects(word: &str) -> bool {
    concludes(word)
        || matches!(
            word,
            "wait"
                | "actually"
                | "correction"
                | "sorry"
                | "instead"
                | "however"
                | "hmm"
                | "but"
                | "no"
                | "mistake"
                | "oops"
                | "reconsider"
                | "reconsidering"
                | "finally"
                | "不"
        )
}

/// A word that may stand between an announcement and the answer.
pub(super) fn is_filler(word: &str) -> bool {
    matches!(
        word,
        "the"
            | "a"
            | "an"
            | "to"
            | "this"
            | "that"
            | "question"
            | "here"
            | "most"
            | "likely"
            | "probably"
            | "clearly"
            | "therefore"
            | "thus"
            | "hence"
            | "then"
            | "likeliest"
            | "best"
            | "correct"
            | "right"
            | "it"
            | "it's"
            | "its"
            | "text"
            | "mathrm"
            | "mathbf"
            | "textbf"
            | "definitely"
            | "only"
            | "final"
            | "my"
            | "i"
            | "i'd"
            | "i'll"
            | "would"
            | "will"
            | "for"
            | "la"
            | "el"
            | "die"
            | "der"
            | "das"
            | "题"
            | "題"
            | "的"
            | "最"
            | "终"
            | "終"
            | "正"
            | "确"
            | "確"
            | "应"
            | "應"
            | "该"
            | "該"
            | "就"
            | "会"
            | "會"
            | "定"
            | "本"
    ) || names_option(word)
        || is_copula(word)
}

/// A word that ties the answer to its announcement.
pub(super) fn is_copula(word: &str) -> bool {
    matches!(
        word,
        "is" | "are"
            | "was"
            | "be"
            | "being"
            | "es"
            | "est"
            | "ist"
            | "e"
            | "it's"
            | "that's"
            | "是"
            | "为"
            | "為"
            | "は"
            | "が"
            | "은"
            | "는"
            | "이"
    )
}

/// Several answers that are only listed: *the answer choices are A ...*.
pub(super) fn lists(word: &str) -> bool {
    matches!(word, "choices" | "options" | "answers" | "candidates" | "alternatives" | "letters")
}

/// A word that denies what follows it: *not B*, *rather than B*.
pub(super) fn denies(word: &str, before: &str) -> bool {
    match word {
        "not" | "no" | "never" | "neither" | "nor" | "than" | "without" | "except" | "excluding" | "exclude"
        | "excludes" | "eliminate" | "eliminating" | "eliminates" | "cannot" | "unlike" | "isnt" | "nicht" | "pas"
        | "不" | "非" | "没" | "無" | "无" | "除" => true,
        "of" => before == "instead",
        "out" => matches!(before, "rule" | "rules" | "ruling" | "ruled"),
        word => word.ends_with("n't"),
    }
}

/// A word that may stand between a denial and what it denies.
pub(super) fn carries_denial(word: &str) -> bool {
    is_filler(word)
        || matches!(
            word,
            "evidence"
                | "of"
                | "signs"
                | "sign"
                | "any"
                | "either"
                | "both"
                | "answer"
                | "choose"
                | "pick"
                | "select"
                | "选"
                | "選"
        )
}

/// A word that denies what stands before it: *A is wrong*, *A does not fit*.
pub(super) fn refutes(word: &str) -> bool {
    matches!(
        word,
        "not"
            | "cannot"
            | "incorrect"
            | "wrong"
            | "false"
            | "excluded"
            | "eliminated"
            | "unlikely"
            | "inconsistent"
            | "irrelevant"
            | "implausible"
            | "distractor"
            | "distractors"
            | "ruled"
            | "impossible"
            | "neither"
            | "不"
            | "错"
            | "錯"
            | "误"
            | "誤"
    ) || word.ends_with("n't")
}

/// A verb or an adverb between an option and its refutation.
pub(super) fn leads_to_refutation(word: &str) -> bool {
    is_verb(word)
        || matches!(
            word,
            "also"
                | "both"
                | "all"
                | "clearly"
                | "obviously"
                | "the"
                | "a"
                | "an"
                | "be"
                | "been"
                | "likely"
                | "less"
                | "common"
                | "是"
                | "项"
                | "項"
        )
}

/// Words with which a sentence about a letter goes on.
pub(super) fn is_verb(word: &str) -> bool {
    matches!(
        word,
        "is" | "are"
            | "was"
            | "were"
            | "does"
            | "do"
            | "did"
            | "can"
            | "could"
            | "would"
            | "should"
            | "has"
            | "have"
            | "seems"
            | "looks"
            | "may"
            | "might"
            | "must"
            | "appears"
            | "fits"
            | "matches"
            | "shows"
    )
}

/// Words that may follow a letter that stands for an option; before any other word it is an initial, a blood group, an article.
pub(super) fn may_follow_letter(word: &str) -> bool {
    is_verb(word)
        || refutes(word)
        || matches!(
            word,
            "because"
                | "since"
                | "as"
                | "due"
                | "given"
                | "or"
                | "and"
                | "but"
                | "nor"
                | "rather"
                | "instead"
                | "correct"
                | "right"
                | "then"
                | "than"
                | "with"
                | "which"
                | "for"
                | "if"
                | "best"
                | "while"
                | "whereas"
                | "remains"
                | "here"
                | "over"
        )
}

/// Words after which a bare letter stands for an option; after any other word it is part of a name (*hepatitis B*, *group A*).
pub(super) fn may_precede_letter(word: &str) -> bool {
    is_filler(word)
        || concludes(word)
        || matches!(
            word,
            "answer"
                | "toward"
                | "towards"
                | "options"
                | "choices"
                | "statement"
                | "and"
                | "or"
                | "but"
                | "than"
                | "not"
                | "either"
                | "both"
                | "neither"
                | "nor"
                | "maybe"
                | "perhaps"
                | "possibly"
                | "leaving"
                | "leaves"
                | "between"
                | "exclude"
                | "eliminate"
                | "because"
                | "while"
                | "whereas"
                | "as"
                | "out"
                | "of"
                | "with"
                | "choose"
                | "chose"
                | "pick"
                | "select"
                | "selected"
                | "boxed"
                | "cannot"
                | "isn't"
                | "ans"
                | "says"
                | "said"
                | "like"
                | "prefer"
        )
}

/// Words that give a letter at the answer's start its reason.
pub(super) fn gives_reason(word: &str) -> bool {
    matches!(word, "because" | "since" | "as" | "due" | "given" | "but" | "not")
}

/// Words that join options to a list.
pub(super) fn joins_list(word: &str) -> bool {
    matches!(word, "or" | "and" | "nor" | "und" | "oder" | "et" | "ou" | "y" | "或" | "和" | "与" | "と" | "か")
}

/// Words that confirm what stands before them: *B is correct*. `last` says whether the sentence ends or the noun follows.
pub(super) fn confirms(word: &str, last: bool) -> bool {
    match word {
        "correct" | "true" | "answer" => true,
        // Also a side of the body.
        "right" | "best" => last,
        "正" | "对" | "對" | "答" => true,
        _ => false,
    }
}
