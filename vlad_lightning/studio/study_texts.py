"""The texts that a new study begins with; the study's owner edits the files, and the criteria in ``study.json``."""

from __future__ import annotations

from vlad_lightning.studio.study_folder import Criterion

TITLE = "Rating of generated images"

CONSENT_TEXT = """\
You are invited to take part in a study about images that computer programs made from short texts.

What you do: you look at images and answer questions about them. You can stop at any time and go on later with the \
same link.

What is stored: your answers, how long each of them took, and the time when it was given, under a random number. Your \
name, your address and your device are not asked for and not stored. The answers are used for research, and may be \
published in this form.

Taking part is voluntary. You can withdraw at any time without giving a reason: the button "Withdraw" below the \
questions deletes your answers.

Who runs the study, and whom to ask: [NAME, INSTITUTION, ADDRESS FOR QUESTIONS]

Pay and ethical approval: [PAY, OR "NONE"; BOARD AND NUMBER OF ITS APPROVAL]

By going on you confirm that you are at least 18 years old, that you have read this text, and that you agree to take \
part.
"""

INSTRUCTIONS_TEXT = """\
Each page shows a text and one or two images that were made from it.

With one image: give a number from 1 to 5 for each question. Judge each question by itself: an ugly image can spell \
its words correctly.

With two images: choose the one that you would rather have for the text. If both are equally good or bad, choose the \
one that you like a little more.

Letters that the text asks for stand in quotation marks. Look at each letter: a missing, doubled or deformed letter \
is a mistake.

Some images say themselves how to answer. Please do as they say; they show us that the questions were read.

Keys: 1 to 5 give a score, the arrows change it or choose between two images, Enter goes on.
"""

CRITERIA = (
    Criterion(
        "Image quality",
        "How good does the image look, apart from what it shows?",
        "very bad: broken or full of faults",
        "very good: nothing to complain about",
    ),
    Criterion(
        "Semantic alignment",
        "How well does the image show what the text describes?",
        "not at all",
        "everything, as described",
    ),
    Criterion(
        "Text rendering",
        "How well are the requested letters drawn: complete, correct and legible?",
        "not legible, or missing",
        "all correct and legible",
    ),
)
"""Three criteria as the paper's abstract names them; the questions are this project's."""
