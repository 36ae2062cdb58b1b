"""Simulate, train and test: ``python train.py sample=mos2 focal=3``, the same as ``hrtem train …``."""

if __name__ == "__main__":
    try:  # a stop by the keyboard during the imports has no traceback
        from hrtem.command.train import start
        from hrtem.commandline import end_in_one_sentence
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    with end_in_one_sentence():
        start()
