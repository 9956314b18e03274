"""What the page of `g4 serve` does, without HTTP: conversations, and answers that nobody waits for.

answers         one answer that is written whether or not a page shows it
conversations   questions, new answers, branches: the store and the answers under way together
models          which can be pulled, how each fits
pulls           pulls that go on when the page is closed
"""
