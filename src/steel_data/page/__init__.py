"""What every page shares, from the data card to a study's: the templates' environment, and the chart."""
