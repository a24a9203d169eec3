-- How a dialogue's text becomes turns, as in Open-Assistant's loader for HH-RLHF (paper, Section 3.1).
-- Defines the macros that the statements beside this file use. sqlfluff 4.5 cannot read their lambdas.
-- noqa: disable=all

-- A field's text; null for one that holds no text but a number, a list or an object, which reading made JSON of.
create macro dialogue_or_null(field) as
    case when starts_with(field, E'\n\nHuman:') or not json_valid(field) then field end;

-- Python's white space, which is more than trim() and \s know.
create macro white_space() as '[\s\x0b\x1c-\x1f\x{85}\pZ]';

-- As Python's str.strip(). Most texts need none of it: two anchored searches cost a quarter of a replacement.
create macro strip(text) as
    case
        when regexp_matches(text, '^' || white_space()) or regexp_matches(text, white_space() || '$')
            then regexp_replace(text, '^' || white_space() || '+|' || white_space() || '+$', '', 'g')
        else text
    end;

-- The speaker of a paragraph that starts with a name; null for others.
create macro speaker_of(paragraph) as
    case
        when starts_with(paragraph, 'Human:') then 'human'
        when starts_with(paragraph, 'Assistant:') then 'assistant'
    end;

-- What follows the name of a paragraph.
create macro named_text(paragraph) as strip(paragraph[instr(paragraph, ':') + 1:]);

-- A list of turns with one more paragraph: a new turn, or more text of the last one. The loader joins what one
-- speaker says in several named paragraphs with a line break; a paragraph without a name keeps its empty line.
create macro append_paragraph(turns, paragraph) as
    case
        when speaker_of(paragraph) is null
            then turns[:-2] || [{ 'speaker': turns[-1].speaker, 'text': turns[-1].text || E'\n\n' || paragraph }]
        when speaker_of(paragraph) = turns[-1].speaker
            then turns[:-2] || [{ 'speaker': turns[-1].speaker, 'text': turns[-1].text || E'\n' || named_text(paragraph) }]
        else turns || [{ 'speaker': speaker_of(paragraph), 'text': named_text(paragraph) }]
    end;

-- The turns of any dialogue, paragraph by paragraph.
create macro turns_by_paragraph(dialogue, keep) as
    list_filter(
        list_transform(
            list_reduce(
                list_filter(string_split(dialogue, E'\n\n'), lambda one: keep or speaker_of(one) is not null),
                lambda turns, paragraph: append_paragraph(turns, paragraph),
                [{ 'speaker': null::varchar, 'text': '' }]
            ),
            lambda turn: { 'speaker': turn.speaker, 'text': strip(turn.text) }
        ),
        lambda turn: turn.speaker is not null or turn.text <> ''
    );

-- What was said after each `Human: `, split before each `Assistant: `, of a dialogue written as nearly all are: begins
-- with Human, a space after every name, and no paragraph that begins with a line break (two line breaks are an empty
-- line from the left, so a third may hide a name). Null for others.
create macro exchanges(dialogue) as
    case
        when
            starts_with(dialogue, E'\n\nHuman: ')
            and not regexp_matches(dialogue, '\n\n\n|\n\n(Human|Assistant):([^ ]|$)')
            then
                list_transform(
                    string_split(dialogue, E'\n\nHuman: ')[2:], lambda one: string_split(one, E'\n\nAssistant: ')
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

-- The turns of a dialogue, {speaker, text}. With keep, text before the first name is a turn without a speaker (null),
-- which makes the dialogue one that does not begin with Human; without, every paragraph that lacks a name is dropped.
-- Both ways give the same; the first is three times as fast, and nearly all dialogues can go it. Their exchanges are a
-- parameter since DuckDB would find them anew at each use.
create macro turns_of(dialogue, exchanges, keep) as
    case
        when alternates(exchanges)
            then
                list_transform(
                    flatten(exchanges),
                    lambda text, place: {
                        'speaker': case when place % 2 = 1 then 'human' else 'assistant' end,
                        'text': said(text, keep)
                    }
                )
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
    ) || E'\n\nAssistant:';

-- What is wrong with a pair by itself, null for nothing. The first reason that applies counts; the second to the fourth
-- are Open-Assistant's rule. Variables: drop_empty, drop_identical.
create macro fault_of(chosen_turns, rejected_turns) as
    case
        when chosen_turns is null or rejected_turns is null then 'broken_row'
        when len(list_filter(chosen_turns, lambda turn: turn.speaker = 'assistant')) = 0 then 'no_assistant_turn'
        when len(chosen_turns) <> len(rejected_turns) then 'different_turns'
        when
            chosen_turns[1].speaker is distinct from 'human' or rejected_turns[1].speaker is distinct from 'human'
            then 'not_human_first'
        when chosen_turns[-1].speaker = 'human' or rejected_turns[-1].speaker = 'human' then 'ends_with_human'
        when chosen_turns[:-2] <> rejected_turns[:-2] then 'prompt_differs'
        when getvariable('drop_empty')::boolean and '' in (chosen_turns[-1].text, rejected_turns[-1].text)
            then 'empty_reply'
        when getvariable('drop_identical')::boolean and chosen_turns[-1].text = rejected_turns[-1].text
            then 'identical_replies'
    end;
