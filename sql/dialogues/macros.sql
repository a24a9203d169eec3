-- How a dialogue's text becomes turns, as in Open-Assistant's loader for HH-RLHF (METHOD: "Data").
-- Defines the macros that the statements beside this file use. sqlfluff 4.5 cannot read their lambdas.
-- noqa: disable=all

-- A field's text; null for one that holds no text but a number, a list or an object, which reading made JSON of.
create macro dialogue_or_null(field) as
    case when starts_with(field, E'\n\nHuman:') or not json_valid(field) then field end;

-- What Python's str.strip() takes away; DuckDB's trim() knows only the space unless told.
create macro white_space() as
    E' \t\n\r\x0b\x0c' || chr(28) || chr(29) || chr(30) || chr(31) || chr(133) || chr(160) || chr(5760)
    || chr(8192) || chr(8193) || chr(8194) || chr(8195) || chr(8196) || chr(8197) || chr(8198) || chr(8199)
    || chr(8200) || chr(8201) || chr(8202) || chr(8232) || chr(8233) || chr(8239) || chr(8287) || chr(12288);

-- The same set, to find the few texts that need it: trim() with a set costs ten times the two searches.
create macro strip(text) as
    case
        when
            regexp_matches(
                text, '^[\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]'
            )
            or regexp_matches(
                text, '[\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]$'
            )
            then trim(text, white_space())
        else text
    end;

-- The speaker of a paragraph that starts with a name; null for others.
create macro speaker_of(paragraph) as
    case
        when starts_with(paragraph, 'Human:') then 'human'
        when starts_with(paragraph, 'Assistant:') then 'assistant'
    end;

-- What follows the name; the space that nearly always does is left out first, which spares most texts the trim().
create macro named_text(paragraph) as
    strip(
        case
            when starts_with(paragraph, 'Human: ') then substring(paragraph, 8)
            when starts_with(paragraph, 'Assistant: ') then substring(paragraph, 12)
            when starts_with(paragraph, 'Human:') then substring(paragraph, 7)
            else substring(paragraph, 11)
        end
    );

-- A list of turns with one more paragraph: a new turn, or more text of the last one. The loader joins what one
-- speaker says in several named paragraphs with a line break; a paragraph without a name keeps its empty line.
create macro append_paragraph(turns, paragraph) as
    case
        when speaker_of(paragraph) is null
            then
                turns[:-2]
                || [{ 'speaker': turns[-1].speaker, 'text': turns[-1].text || E'\n\n' || paragraph }]
        when speaker_of(paragraph) = turns[-1].speaker
            then
                turns[:-2]
                || [{ 'speaker': turns[-1].speaker, 'text': turns[-1].text || E'\n' || named_text(paragraph) }]
        else turns || [{ 'speaker': speaker_of(paragraph), 'text': named_text(paragraph) }]
    end;

-- The turns of any dialogue, paragraph by paragraph.
create macro turns_by_paragraph(dialogue, keep) as
    list_filter(
        list_transform(
            list_reduce(
                list_filter(
                    string_split(dialogue, E'\n\n'),
                    lambda paragraph: keep or speaker_of(paragraph) is not null
                ),
                lambda turns, paragraph: append_paragraph(turns, paragraph),
                [{ 'speaker': null::varchar, 'text': '' }]
            ),
            lambda turn: { 'speaker': turn.speaker, 'text': strip(turn.text) }
        ),
        lambda turn: turn.speaker is not null or turn.text <> ''
    );

-- Whether a dialogue is written as nearly all are: begins with Human, a space after every name, and no paragraph that
-- begins with a line break (two line breaks are an empty line from the left, so a third may hide a name).
create macro is_regular(dialogue) as
    starts_with(dialogue, E'\n\nHuman: ')
    and not regexp_matches(dialogue, '\n\n\n|\n\n(Human|Assistant):([^ ]|$)');

-- What was said after each `Human: ` of a regular dialogue, split before each `Assistant: `; null for others.
create macro exchanges(dialogue) as
    case
        when is_regular(dialogue)
            then
                list_transform(
                    string_split(dialogue, E'\n\nHuman: ')[2:],
                    lambda exchange: string_split(exchange, E'\n\nAssistant: ')
                )
    end;

-- Whether the speakers take turns: two texts in every exchange, one or two in the last.
create macro alternates(exchanges) as
    list_max(list_transform(exchanges, lambda exchange: len(exchange))) <= 2
    and len(flatten(exchanges[:-2])) = 2 * (len(exchanges) - 1);

-- What was said under one name: its first paragraph, stripped, and the paragraphs behind it that lack a name.
create macro said(text, keep) as
    strip(
        case
            when not contains(text, E'\n\n') then text
            when keep then strip(split_part(text, E'\n\n', 1)) || text[instr(text, E'\n\n'):]
            else split_part(text, E'\n\n', 1)
        end
    );

-- The turns of exchanges that alternate.
create macro turns_in_order(exchanges, keep) as
    list_transform(
        flatten(exchanges),
        lambda text, place: {
            'speaker': case when place % 2 = 1 then 'human' else 'assistant' end,
            'text': said(text, keep)
        }
    );

-- The turns of a dialogue, {speaker, text}. With keep, text before the first name is a turn of nobody (speaker null),
-- which makes the dialogue one that does not begin with Human; without, every paragraph that lacks a name is dropped.
-- Both ways give the same; the first is three times as fast, and nearly all dialogues can go it. Their exchanges are a
-- parameter since DuckDB would find them anew at each use.
create macro turns_of(dialogue, exchanges, keep) as
    case
        when alternates(exchanges) then turns_in_order(exchanges, keep)
        else turns_by_paragraph(dialogue, keep)
    end;

-- HH-RLHF's plain text of turns, ending with an open Assistant: (cyclealign.records.render_dialogue).
create macro render(turns) as
    array_to_string(
        list_transform(
            turns,
            lambda turn: case turn.speaker when 'human' then 'Human: ' else 'Assistant: ' end || turn.text
        ),
        E'\n\n'
    )
    || E'\n\nAssistant:';

-- What is wrong with a pair by itself, null for nothing. The first reason that applies counts; the first three are
-- Open-Assistant's rule.
create macro fault_of(chosen_turns, rejected_turns, drop_empty, drop_identical) as
    case
        when len(list_filter(chosen_turns, lambda turn: turn.speaker = 'assistant')) = 0 then 'no_assistant_turn'
        when len(chosen_turns) <> len(rejected_turns) then 'different_turns'
        when
            chosen_turns[1].speaker is distinct from 'human' or rejected_turns[1].speaker is distinct from 'human'
            then 'not_human_first'
        when chosen_turns[-1].speaker = 'human' or rejected_turns[-1].speaker = 'human' then 'ends_with_human'
        when chosen_turns[:-2] <> rejected_turns[:-2] then 'prompt_differs'
        when drop_empty and (chosen_turns[-1].text = '' or rejected_turns[-1].text = '') then 'empty_reply'
        when drop_identical and chosen_turns[-1].text = rejected_turns[-1].text then 'identical_replies'
    end;
