"""Write down what is said in a recording, window by window, for the terminal and for HTTP."""
